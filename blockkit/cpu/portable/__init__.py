"""The semantics as plain Python: the reference for every other interpretation, and the one that needs nothing."""
