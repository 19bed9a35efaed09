"""The other end of the serial port: what it remembers, and where it leads."""
