"""How a disk is copied: what there is to copy, and who copies it to which kind of target."""
