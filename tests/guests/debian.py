"""What ``tools/get-guests`` fetched, and initial RAM disks of it: busybox, the drivers that a machine needs, mke2fs."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from tests.guests.cpio import Archive

#: Modules by what finds the disk.
DRIVERS = {
    "virtio": ("virtio_pci", "virtio_blk"),
    "ide": ("ata_piix", "sd_mod"),
    "cdrom": ("ata_piix", "sr_mod", "isofs"),
}


def directory() -> Path:
    """Return where guests are; the test is skipped where they are not."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    found = Path(os.environ.get("BLOCKKIT_GUESTS") or f"{cache}/blockkit/guests").expanduser()
    if not (found / ".list").exists():
        pytest.skip("needs guests (tools/get-guests)")
    return found


def firmware_file(name: str) -> str:
    """Return what a machine is told to start with: ``builtin``, or for ``seabios`` the file of Debian's."""
    return str(directory() / "amd64/usr/share/seabios/bios-256k.bin") if name == "seabios" else name


def root_file_system() -> Path:
    """Return the file system of a whole Debian; the test is skipped where ``tools/make-debian-guest`` did not run."""
    found = directory() / "amd64/debian-minbase.ext4"
    if not found.exists():
        pytest.skip("needs a Debian guest (tools/make-debian-guest)")
    return found


class Debian:
    """Debian's files for one architecture: ``amd64`` or ``i386``."""

    def __init__(self, architecture: str) -> None:
        self.root = directory() / architecture
        self.architecture = architecture

    def kernel(self) -> Path:
        return next((self.root / "boot").glob("vmlinuz-*"))

    def modules(self) -> Path:
        return next((self.root / "lib/modules").iterdir())

    def module(self, name: str) -> Path | None:
        """Return a module; None for what is built in."""
        for each in (name, name.replace("_", "-")):
            found = next(self.modules().rglob(f"{each}.ko"), None)
            if found:
                return found
        return None

    def load_order(self, names: tuple[str, ...]) -> list[Path]:
        """Return modules and what they depend on, in the order they are to be loaded."""
        order: list[Path] = []

        def visit(name: str) -> None:
            path = self.module(name)
            if path is None or path in order:
                return
            data = path.read_bytes()
            start = data.index(b"\0depends=") + 9
            for each in data[start : data.index(b"\0", start)].decode().split(","):
                if each:
                    visit(each)
            order.append(path)

        for name in names:
            visit(name)
        return order

    def library_names(self) -> list[Path]:
        folder = "lib/x86_64-linux-gnu" if self.architecture == "amd64" else "lib/i386-linux-gnu"
        names = ("libext2fs.so.2", "libcom_err.so.2", "libblkid.so.1", "libuuid.so.1", "libe2p.so.2", "libc.so.6")
        return [next(self.root.glob(f"**/{folder}/{name}")) for name in names]


@cache
def initrd(architecture: str, drivers: tuple[str, ...], script: str, *, file_system: bool = False) -> bytes:
    """Return an initial RAM disk whose init loads drivers and goes on with a script.

    Args:
        architecture: Of the kernel.
        drivers: Keys of DRIVERS.
        script: Lines of the shell.
        file_system: ext4 is needed, and mke2fs.
    """
    debian, archive = Debian(architecture), Archive()
    archive.add_tree(debian.root / "bin/busybox", "bin/busybox")
    for name in ("proc", "sys", "dev", "mnt", "tmp"):
        archive.add_directory(name)
    wanted = tuple(name for driver in drivers for name in DRIVERS[driver]) + (
        ("ext4", "crc32c_generic") if file_system else ()
    )
    lines = ["#!/bin/busybox sh", "/bin/busybox --install -s /bin", "export PATH=/bin:/sbin"]
    lines += ["mount -t proc proc /proc", "mount -t sysfs sys /sys", "mount -t devtmpfs dev /dev 2>/dev/null"]
    for path in debian.load_order(wanted):
        archive.add_tree(path, f"modules/{path.name}")
        lines.append(f"insmod /modules/{path.name}")
    if file_system:
        archive.add_tree(debian.root / "sbin/mke2fs", "sbin/mke2fs")
        for path in debian.library_names():
            archive.add_tree(path, f"lib/{path.name}")
        loader = "lib64/ld-linux-x86-64.so.2" if architecture == "amd64" else "lib/ld-linux.so.2"
        archive.add_tree(next(debian.root.glob(f"**/{Path(loader).name}")), loader)
    archive.add_file("init", "\n".join([*lines, script, "poweroff -f", ""]).encode())
    return archive.finish()
