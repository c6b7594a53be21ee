"""Configurations of other tools, made into prefloop's: a table of keys for each dialect, and one engine.

`rules` has what a table is made of, `mlx_lm_lora`, `studio` and `trl` are the tables, `convert` applies them
and `account` says what became of every key.
"""
