"""Starting a kernel without firmware: reading it, putting it into memory, and where its processor begins."""
