"""Where bytes leave the graph: host files, block devices, connections."""
