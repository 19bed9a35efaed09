"""A debugger attached to the machine: the remote serial protocol of GDB (Debugging with GDB, appendix E)."""
