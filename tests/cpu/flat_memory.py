"""Memory of this process as that of native system code, in the dialect: what an engine supplies otherwise."""

from __future__ import annotations

from blockkit.cpu.dialect import host_read, host_write


def load(address: int, size: int) -> int:
    if size == 8:
        return host_read(address, 8)
    if size == 4:
        return host_read(address, 4)
    if size == 2:
        return host_read(address, 2)
    return host_read(address, 1)


def store(address: int, size: int, value: int) -> None:
    if size == 8:
        host_write(address, 8, value)
    elif size == 4:
        host_write(address, 4, value)
    elif size == 2:
        host_write(address, 2, value)
    else:
        host_write(address, 1, value)


def load_system(address: int, size: int) -> int:
    return load(address, size)


def probe_store(address: int, size: int) -> None:
    pass
