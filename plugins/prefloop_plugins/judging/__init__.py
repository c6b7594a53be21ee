"""A judge outside the loop: on pairs from a file, with a report on how far it can be trusted."""
