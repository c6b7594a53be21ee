"""A whole run: prepared, driven, written down as files, taken up again."""
