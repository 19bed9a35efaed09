"""Guessing formats: what is sure, what is raw, and what is neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.block.probing import other_than_raw, probe_bytes
from blockkit.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path


def test_whatever_nothing_else_recognises_is_raw() -> None:
    for head in (b"", b"x", b"QFI\xfa".ljust(512), b"QFI\xfb\0\0\0\1".ljust(512, b"\0"), bytes(4096)):
        assert probe_bytes(head, "x") == "raw"
    assert probe_bytes(b"QFI\xfb\0\0\0\3".ljust(512, b"\0"), "x") == "qcow2"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"KDMV\1\0\0\0", "vmdk"),
        (b"# Disk DescriptorFile\nversion=1", "vmdk"),
        (b"<<< QEMU VM Virtual Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe", "vdi"),
        (b"vhdxfile", "vhdx"),
        (b"conectix", "vpc"),
        (b"QED\0", "qed"),
        (b"WithouFreSpacExt", "parallels"),
        (b"LUKS\xba\xbe\0\1", "luks"),
    ],
)
def test_the_container_of_a_format_nobody_opens_here_is_no_disk(head: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(head.ljust(4096, b"\0"))
    with pytest.raises(FormatError, match=f"is a {name} image"):
        blockkit.open_image(path)
    with blockkit.open_image(path, format="raw") as node:
        assert node.read(0, len(head)) == head
    assert other_than_raw(head.ljust(4096, b"\0")) == name
