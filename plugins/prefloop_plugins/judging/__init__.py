"""What judges say, outside the loop: on files of pairs, reported, read back, and guarded against."""
