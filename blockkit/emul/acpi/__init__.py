"""What the machine tells an operating system of itself (Advanced Configuration and Power Interface 6.4)."""
