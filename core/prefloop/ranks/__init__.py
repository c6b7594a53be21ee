"""Ranks: several processes, on one machine or on many, that share a run.

Every rank runs the same program. It samples and judges its own part of each step and scores its share of the
labelled pairs; completions, verdicts and the gradient then go to all. Rank 0 alone writes.
"""
