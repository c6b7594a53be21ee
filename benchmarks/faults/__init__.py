"""The fault campaign: what becomes of killed runs and ranks, of full disks and of damaged files.

``python -m benchmarks.faults --kills 100`` kills real training processes with SIGKILL and resumes them until
they are done; fills small disks while runs are saved (root only); cuts, changes and removes files of
interrupted runs; kills single ranks of runs that several share. After every fault the files must be readable
or, where the fault was to them, be refused in one line; in the end the run must equal one that nothing
interrupted: the same adapters, bit for bit or with ranks to 1e-5, every label once, the same metrics but for
timings. Prints one table and exits with 1 if anything was lost.
"""
