"""What more machines bring, as far as one machine can tell: ``python -m benchmarks.scaling PART``.

``phases`` measures what `prefloop plan` goes by, ``ranks`` and ``workers`` compare what it says with runs on
this machine, and ``simulate`` plays 2 to 64 machines through from the phases on record. All keep what they
find, and docs/scaling.md shows it.
"""
