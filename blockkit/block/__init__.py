"""The block graph: one node interface, and what is built from it alone."""
