"""Disk-image formats: each maps guest offsets to offsets of the file below it."""
