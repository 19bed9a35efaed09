from __future__ import annotations

import importlib.metadata
from importlib import import_module
from typing import Any

import pytest

import blockkit
from blockkit.block.filters import FILTERS
from blockkit.errors import UnknownDriverError
from blockkit.formats import FORMATS, format_driver
from blockkit.protocols import PROTOCOLS
from blockkit.testing.memory import MemoryNode


@pytest.mark.parametrize("table", [FORMATS, PROTOCOLS, FILTERS])
def test_every_driver_of_the_tables_is_there_under_its_name(table: dict[str, str]) -> None:
    for name, place in table.items():
        module, _, attribute = place.partition(":")
        driver = getattr(import_module(module), attribute)
        assert driver.name == name
        driver.Options()


class Entry:
    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value

    def load(self) -> Any:
        module, _, attribute = self.value.partition(":")
        return getattr(import_module(module), attribute)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What entry points were asked for; ``foreign`` is a format of another package, and ``broken`` cannot be loaded."""
    asked: list[tuple[str, str]] = []
    entries = {"foreign": "blockkit.formats.raw:DRIVER", "broken": "no_such_package_here:DRIVER"}

    def entry_points(*, group: str, name: str | None = None) -> list[Entry]:
        if name is not None:
            asked.append((group, name))
        found = entries if group == "blockkit.formats" else {}
        return [Entry(known, value) for known, value in found.items() if name in (None, known)]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return asked


def test_known_names_ask_no_other_package(asked: list[tuple[str, str]]) -> None:
    format_driver("raw")
    with blockkit.open_image({"driver": "readonly", "file": {"driver": "raw", "file": MemoryNode(b"x")}}):
        pass
    assert asked == []


def test_unknown_names_are_asked_of_other_packages(asked: list[tuple[str, str]]) -> None:
    with blockkit.open_image({"driver": "foreign", "file": MemoryNode(b"abc")}) as node:
        assert node.read(0, 3) == b"abc"
    assert ("blockkit.formats", "foreign") in asked


def test_a_package_that_cannot_be_loaded_is_named(asked: list[tuple[str, str]]) -> None:
    with pytest.raises(UnknownDriverError, match="'broken' from 'no_such_package_here:DRIVER' cannot be loaded"):
        format_driver("broken")


def test_a_name_nobody_has_brings_the_near_one_to_mind(asked: list[tuple[str, str]]) -> None:
    with pytest.raises(UnknownDriverError, match="there is no format 'qcow'; did you mean 'qcow2'"):
        format_driver("qcow")
    with pytest.raises(UnknownDriverError, match="there is no format 'forein'; did you mean 'foreign'"):
        format_driver("forein")
    for name in ("../x", "", "a b"):
        with pytest.raises(UnknownDriverError):
            format_driver(name)
