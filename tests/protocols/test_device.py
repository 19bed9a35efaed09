"""Block devices, on loop devices that are detached whatever happens."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from blockkit.block.graph import open_image
from blockkit.block.node import Cap, Kind, Preallocation
from blockkit.errors import (
    LockedError,
    NodeIOError,
    NoSpaceError,
    OutOfRangeError,
    ReadOnlyError,
    UnsupportedOperationError,
)
from blockkit.protocols.file import HostDevice, HostFile, create_file, open_path
from tests.protocols.loop import attach, detach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

MIB = 1 << 20


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    path = tmp_path / "backing.img"
    path.write_bytes(b"x" * 4 * MIB)
    return path


@pytest.fixture(params=[(512, "writeback"), (4096, "writeback"), (512, "none"), (4096, "none")], ids=str)
def case(request: pytest.FixtureRequest, backing: Path) -> Iterator[SimpleNamespace]:
    """A loop device, its sector size, and the cache mode to use it with."""
    sector, cache = request.param
    device = attach(backing, "--sector-size", str(sector))
    try:
        yield SimpleNamespace(path=device, sector=sector, cache=cache)
    finally:
        detach(device)


@pytest.fixture
def device(backing: Path) -> Iterator[str]:
    name = attach(backing)
    try:
        yield name
    finally:
        detach(name)


def test_a_device_is_recognised_and_measured(case: SimpleNamespace) -> None:
    with open_path(case.path, read_only=False, cache=case.cache) as node:
        assert type(node) is HostDevice
        assert node.driver == "host_device"
        assert node.size == 4 * MIB
        assert stat.S_ISBLK(os.fstat(node.fileno()).st_mode)
        assert node.limits.discard_granularity == case.sector
        assert node.limits.request_alignment == (case.sector if case.cache == "none" else 1)
        assert Cap.GROW not in node.caps
        assert Cap.RESIZE not in node.caps
        assert node.allocated_size == 0


def test_a_name_may_say_that_it_is_a_device(case: SimpleNamespace) -> None:
    with open_image(f"host_device:{case.path}", format="raw") as node:
        assert node.size == 4 * MIB


def test_unaligned_writes_keep_their_neighbours(case: SimpleNamespace) -> None:
    with open_path(case.path, read_only=False, cache=case.cache) as node:
        node.write(4 * MIB - 5, b"tail!", fua=True)
        node.write(1000, b"y" * 9000)
        node.flush()
        assert node.read(900, 9200) == b"x" * 100 + b"y" * 9000 + b"x" * 100
        assert node.read(4 * MIB - 10, 10) == b"xxxxxtail!"
    with open_path(case.path, cache=case.cache) as node:
        assert node.read(0, 4 * MIB).count(b"x") == 4 * MIB - 9005


@pytest.mark.parametrize("unmap", [True, False])
def test_zeroing_touches_no_byte_outside(case: SimpleNamespace, unmap: bool) -> None:
    with open_path(case.path, read_only=False, cache=case.cache) as node:
        node.zero(1001, 100_000, unmap=unmap)
        node.zero(200_001, 7, unmap=unmap)
        assert node.read(1000, 100_002) == b"x" + bytes(100_000) + b"x"
        assert node.read(200_000, 9) == b"x" + bytes(7) + b"x"
        node.zero(MIB, MIB, unmap=unmap, fast=True)
        assert node.read(MIB - 1, MIB + 2) == b"x" + bytes(MIB) + b"x"
        with pytest.raises(UnsupportedOperationError, match="less than a sector"):
            node.zero(300_001, 5, fast=True)
        assert node.read(300_001, 5) == b"x" * 5


def test_discarding_gives_whole_sectors_back(case: SimpleNamespace, backing: Path) -> None:
    before = backing.stat().st_blocks
    with open_path(case.path, read_only=False, cache=case.cache) as node:
        node.discard(1, 2 * MIB)
        node.discard(3 * MIB + 1, 5)
        assert node.read(0, 1) == b"x"
        assert node.read(2 * MIB + 1, MIB) == b"x" * MIB
        assert node.read(3 * MIB, 10) == b"x" * 10
        node.flush()
    assert backing.stat().st_blocks <= before - 2 * MIB // 512 + 64


def test_a_device_told_to_keep_space_keeps_it(device: str) -> None:
    with open_path(device, read_only=False, discard="ignore") as node:
        node.discard(0, MIB)
        assert node.read(0, MIB) == b"x" * MIB


def test_a_device_has_a_fixed_size(device: str) -> None:
    with open_path(device, read_only=False) as node:
        with pytest.raises(OutOfRangeError):
            node.write(4 * MIB - 1, b"ab")
        with pytest.raises(OutOfRangeError):
            node.zero(4 * MIB - 1, 2)
        with pytest.raises(UnsupportedOperationError, match=f"a block device has a fixed size, {4 * MIB} bytes"):
            node.resize(MIB)


def test_a_device_has_data_everywhere(device: str) -> None:
    with open_path(device) as node:
        assert [e[:3] for e in node.extents()] == [(0, 4 * MIB, Kind.DATA)]
        assert node.map(5, 10)[:3] == (5, 10, Kind.DATA)


def test_a_new_image_on_a_device_shows_no_old_header(device: str) -> None:
    with create_file(device, MIB) as node:
        assert node.size == 4 * MIB
        assert node.read(0, 4096) == bytes(4096)
        assert node.read(2 * MIB, 10) == b"x" * 10
    with create_file(device, MIB, preallocation=Preallocation.FULL) as node:
        assert node.read(0, MIB + 1) == bytes(MIB) + b"x"
    with pytest.raises(NoSpaceError, match=f"the device has {4 * MIB} bytes, {5 * MIB} are needed"):
        create_file(device, 5 * MIB)


def test_a_read_only_device_is_not_opened_for_writing(backing: Path) -> None:
    device = attach(backing, "--read-only")
    try:
        with open_path(device) as node:
            assert node.read(0, 1) == b"x"
        with pytest.raises(ReadOnlyError) as caught:
            open_path(device, read_only=False)
        assert "\n" not in str(caught.value)
        assert device in str(caught.value)
    finally:
        detach(device)


def test_a_file_driver_refuses_a_device(device: str) -> None:
    with pytest.raises(NodeIOError, match="is a block device, which driver file does not take"):
        HostFile.open(device)


def test_devices_are_locked_as_files_are(device: str) -> None:
    with open_path(device, read_only=False), pytest.raises(LockedError):
        open_path(device)


@pytest.mark.interop
def test_qemu_reads_what_was_written_to_a_device(device: str, qemu_io: Callable[..., str]) -> None:
    with open_path(device, read_only=False, cache="none") as node:
        node.write(777, b"z" * 5000)
        node.zero(10_000, 20_000)
    qemu_io(
        device,
        "read -P 0x78 0 777",
        "read -P 0x7a 777 5000",
        "read -P 0 10000 20000",
        "read -P 0x78 30000 1000",
        fmt="raw",
        options=("-r",),
    )
