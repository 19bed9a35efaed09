"""The built-in firmware: stubs of machine code in ROM, and services in Python that they call by a port."""
