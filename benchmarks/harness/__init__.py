"""What all benchmarks share.

`environments` makes virtual environments for other tools, `workers` runs one process for each measurement and
`worker` is that process's side of it, `records` keeps results with what they were measured on, `statistics`
summarises them, `pages` puts them into the documentation. `internals` is the one place that knows where in
prefloop the names lie that are not public.
"""
