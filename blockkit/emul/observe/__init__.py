"""Looking at a machine from outside: what its guest does to devices, and what becomes of each request."""
