"""What authors of drivers need to test them; public."""
