"""Initial RAM disks: archives of cpio's "newc" kind, which Linux unpacks (Documentation/driver-api/early-userspace)."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath


class Archive:
    """Collects files; directories above them come by themselves."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._parts: list[bytes] = []

    def add_file(self, name: str, data: bytes, mode: int = 0o755) -> None:
        self._add(name, stat.S_IFREG | mode, data)

    def add_link(self, name: str, target: str) -> None:
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def add_directory(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def add_tree(self, path: Path, name: str) -> None:
        """Add a file of the host under another name, following links."""
        self.add_file(name, path.resolve().read_bytes(), path.stat().st_mode & 0o777)

    def finish(self) -> bytes:
        parts = [*self._parts, self._entry("TRAILER!!!", 0, b"")]
        whole = b"".join(parts)
        return whole + bytes(-len(whole) % 512)

    def _add(self, name: str, mode: int, data: bytes) -> None:
        name = name.strip("/")
        if name in self._names:
            return
        above = str(PurePosixPath(name).parent)
        if above != ".":
            self.add_directory(above)
        self._names.add(name)
        self._parts.append(self._entry(name, mode, data))

    def _entry(self, name: str, mode: int, data: bytes) -> bytes:
        number = len(self._parts) + 1
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        head += bytes(-len(head) % 4)
        return head + data + bytes(-len(data) % 4)
