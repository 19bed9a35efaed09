"""What a trace consists of."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """One thing that happened on behalf of a request.

    Attributes:
        request: The request's number; 0 for what belongs to none.
        layer: ``register``: an access of the guest; ``request``: what its device asks of a disk; ``node``: a request
            to a node of the block graph; ``host``: one that leaves the graph; ``call``: a system call for that;
            ``done``: the guest learns of the end.
        name: The device, the drive, the node's driver, or the system call.
        action: ``read``, ``write``, ``flush`` and so on.
        place: A register's name, or that of a file.
        offset: Bytes; a register's address.
        length: Bytes.
        virtual: When, in virtual nanoseconds.
        host: When, in nanoseconds of the host since the trace began.
        took: Nanoseconds of the host; of ``done``, virtual ones since the request.
        depth: How many nodes are above.
        result: What was read or written in a register; what went wrong; how many bytes a system call moved, if not all;
            else empty.
        fd: The descriptor of a system call; -1 without.
    """

    request: int
    layer: str
    name: str
    action: str
    place: str
    offset: int
    length: int
    virtual: int
    host: int
    took: int = 0
    depth: int = 0
    result: str = ""
    fd: int = -1
