"""Log-probabilities of completions under policy and reference: what a step computes most of."""
