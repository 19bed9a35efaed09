"""What instructions do that is more than a few operations, in the dialect of :mod:`blockkit.cpu.dialect`."""
