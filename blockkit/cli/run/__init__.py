"""``blockkit run``: a machine on the command line."""
