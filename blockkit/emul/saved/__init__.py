"""A machine as a file: its processor, devices and memory, and what it asks of its disks."""
