"""A machine as a file: its processor, devices and memory, what was written to disks that are thrown away, and what it
asks of the others."""
