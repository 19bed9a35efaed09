"""Disks as machines open them: throw-away overlays, warnings, what is refused."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.clock import Clock
from blockkit.emul.config import DriveConfig
from blockkit.emul.drives import Drive, open_drive
from blockkit.errors import OptionError, PolicyError
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from pathlib import Path


def opened(config: DriveConfig) -> Drive:
    return open_drive("drive0", config, Clock(lambda: 0, lambda: None), None, lambda: None)


def test_an_overlay_takes_what_is_written_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    image = tmp_path / "disk.raw"
    image.write_bytes(b"a" * 70_000)
    drive = opened(DriveConfig(str(image), format="raw", snapshot=True))
    assert not list((tmp_path / "temporary").iterdir())
    drive.node.write(100, b"b" * 1000)
    drive.node.flush()
    assert drive.node.read(99, 2) == b"ab"
    # Others may read the image meanwhile: it is open for reading only.
    blockkit.open_image(image, format="raw").close()
    drive.node.close()
    assert image.read_bytes() == b"a" * 70_000


def test_a_guessed_raw_disk_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    for config, warned in (
        (DriveConfig(str(tmp_path / "disk")), True),
        (DriveConfig(str(tmp_path / "disk"), format="raw"), False),
        (DriveConfig(str(tmp_path / "disk"), interface="cdrom"), False),
        (DriveConfig(MemoryNode(512)), False),
    ):
        drive = opened(config)
        assert ("guessed to be raw" in drive.warning) is warned
        assert drive.disk.read_only is (config.interface == "cdrom")
        drive.node.close()


def test_what_an_image_names_is_opened_by_the_policy(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    blockkit.create_image(tmp_path / "secret", "raw", 1 << 20)
    path = tmp_path / "images" / "a.qcow2"
    blockkit.create_image(path, "qcow2", backing_file="../secret", backing_format="raw")
    with pytest.raises(PolicyError, match="leads out of"):
        opened(DriveConfig(str(path), snapshot=True))


def test_a_node_that_cannot_be_written_is_not_for_a_disk_that_can() -> None:
    node = MemoryNode(512, read_only=True)
    with pytest.raises(OptionError, match="open for reading only"):
        opened(DriveConfig(node))
    opened(DriveConfig(node, read_only=True)).node.close()
