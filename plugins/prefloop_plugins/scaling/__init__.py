"""What several machines would bring a run: bytes over the wire, seconds a step, memory, staleness.

`machines` reads what there is, `phases` what a step takes here, `wire` and `ways` do the arithmetic, and
`simulation` plays it through with the spread of the steps that were measured. `prefloop plan` shows it.
"""
