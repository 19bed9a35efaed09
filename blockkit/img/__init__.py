"""What the image tools do, as plain functions on nodes; `blockkit.cli` prints it."""
