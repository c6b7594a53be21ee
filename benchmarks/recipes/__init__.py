"""What the recipes in `recipes/` need, worked out for the real models without their weights.

``python -m benchmarks.recipes`` writes it into the recipes and their README; ``--check`` only says where it
is out of date.
"""
