"""All that exists for mlx's CPU back end on Linux: a faster BLAS, its threads, NumPy in the place of kernels.

On x86 mlx takes ``exp`` one number at a time (10 ns), and NumPy is 25 times faster. On a Mac nothing of this
runs.
"""
