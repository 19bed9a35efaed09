"""The machine around a processor: memory, ports, interrupts, time, and devices."""
