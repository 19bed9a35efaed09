"""The PCI bus: configuration space, base address registers and interrupts (PCI Local Bus Specification 3.0)."""
