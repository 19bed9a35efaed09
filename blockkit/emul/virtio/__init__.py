"""virtio (Virtual I/O Device Version 1.2, OASIS): queues, devices, and their transport over PCI."""
