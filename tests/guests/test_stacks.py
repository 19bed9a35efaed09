"""The list of what guests' disks stand on follows the package's tables."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from blockkit.errors import UnsupportedOperationError
from blockkit.formats import FORMATS, format_driver
from blockkit.protocols import PROTOCOLS
from tests.guests.stacks import INTERFACES, Stack, all_stacks
from tests.protocols.places import PLACES

if TYPE_CHECKING:
    from pathlib import Path


class ReadOnlyDriver:
    """A format of which no new images can be made."""

    name = "old"
    CreateOptions = format_driver("raw").CreateOptions

    def create(self, *arguments: object) -> None:
        raise UnsupportedOperationError("old: cannot be made")


def add_format(monkeypatch: pytest.MonkeyPatch, name: str, driver: object) -> None:
    module = ModuleType("a_format")
    module.DRIVER = driver
    monkeypatch.setitem(sys.modules, "a_format", module)
    monkeypatch.setitem(FORMATS, name, "a_format:DRIVER")


def test_every_format_and_protocol_is_there() -> None:
    stacks = all_stacks()
    assert {Stack("raw", "raw"), Stack("qcow2", "qcow2"), Stack("qcow2-over-raw", "qcow2", backed=True)} <= {*stacks}
    assert {each.protocol for each in stacks} == {*PROTOCOLS}
    assert len({each.name for each in stacks}) == len(stacks)


def test_a_new_format_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {*all_stacks()}
    add_format(monkeypatch, "boxed", format_driver("qcow2"))
    assert {*all_stacks()} - before == {Stack("boxed", "boxed"), Stack("boxed-over-raw", "boxed", backed=True)}


def test_a_format_that_is_only_read_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    before = all_stacks()
    add_format(monkeypatch, "old", ReadOnlyDriver())
    assert all_stacks() == before


def test_a_new_protocol_joins_and_must_say_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(PROTOCOLS, "far", "nowhere:FAR")
    stack = Stack("raw-on-far", "raw", protocol="far")
    assert stack in all_stacks()
    (tmp_path / "contents").write_bytes(bytes(512))
    with (
        pytest.raises(pytest.fail.Exception, match=r"places\.py .* 'far'"),
        stack.disk(tmp_path / "contents", tmp_path),
    ):
        pass


def test_every_protocol_has_a_place() -> None:
    assert {*PLACES} == {*PROTOCOLS}


@pytest.mark.interop("qemu-img")
@pytest.mark.parametrize("stack", [each for each in all_stacks() if not each.needs_root], ids=lambda each: each.name)
def test_a_disk_holds_what_it_was_made_of(stack: Stack, tmp_path: Path) -> None:
    contents = tmp_path / "source"
    contents.write_bytes(bytes(1 << 16) + b"data" * 4096 + bytes(1 << 20))
    with stack.disk(contents, tmp_path) as disk:
        disk.check()
        assert disk.contents(tmp_path).read_bytes() == contents.read_bytes()
        with disk.open(read_only=False) as node:
            node.write(5, b"more")
        disk.check()
        assert disk.contents(tmp_path).read_bytes()[5:9] == b"more"
        assert disk.drive(INTERFACES[0])["format"] == stack.format
        if stack.backed:
            with open(disk.below, "r+b") as below:
                below.write(b"spoilt")
            with pytest.raises(AssertionError, match="backing file"):
                disk.check()
