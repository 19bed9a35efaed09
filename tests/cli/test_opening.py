"""How each command opens what it is given: cache modes, sharing, and for writing or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from blockkit.block.graph import create_image
from blockkit.protocols.hostfile import HostFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool, bool]]:
    """Names of files that were opened, with the cache mode, whether others may write, and whether it may not."""
    seen: list[tuple[str, str, bool, bool]] = []
    real = HostFile.open.__func__  # type: ignore[attr-defined]

    def note(cls: type[HostFile], path: Any, **how: Any) -> HostFile:
        seen.append((os.path.basename(path), how["cache"], how["share"], how["read_only"]))
        node: HostFile = real(cls, path, **how)
        return node

    monkeypatch.setattr(HostFile, "open", classmethod(note))
    return seen


READ, WRITE = True, False


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("convert -f raw a b", {("a", "writeback", False, READ), ("b", "unsafe", False, WRITE)}),
        ("convert -f raw -T none -t directsync a b", {("a", "none", False, READ), ("b", "directsync", False, WRITE)}),
        (
            "convert -f raw -U -n -t writethrough a c",
            {("a", "writeback", True, READ), ("c", "writethrough", False, WRITE)},
        ),
        ("compare -f raw -F raw a c", {("a", "writeback", False, READ), ("c", "writeback", False, READ)}),
        ("compare -f raw -F raw -U -T none a c", {("a", "none", True, READ), ("c", "none", True, READ)}),
        ("check -T none d", {("d", "none", False, READ)}),
        ("check -U d", {("d", "writeback", True, READ)}),
        ("check -T unsafe -r leaks d", {("d", "unsafe", False, READ), ("d", "unsafe", False, WRITE)}),
        ("bench -f raw -c 1 -t none a", {("a", "none", False, READ)}),
        ("bench -f raw -c 1 -U a", {("a", "writeback", True, READ)}),
        ("bench -f raw -c 1 -w a", {("a", "writeback", False, WRITE)}),
        ("info -U d", {("d", "writeback", True, READ)}),
        ("map -U d", {("d", "writeback", True, READ)}),
        ("measure -U -O qcow2 d", {("d", "writeback", True, READ)}),
        ("inspect -U d", {("d", "writeback", True, READ)}),
        ("dd -U -f raw if=a of=b", {("a", "writeback", True, READ), ("b", "writeback", False, WRITE)}),
        ("resize -f raw a 2M", {("a", "writeback", False, WRITE)}),
    ],
)
def test_files_are_opened_as_the_words_say(
    words: str,
    expected: set[tuple[str, str, bool, bool]],
    direct_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: list[tuple[str, str, bool, bool]],
    img: Callable,
) -> None:
    place = direct_directory / tmp_path.name
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("a", "c"):
        create_image(name, "raw", 1 << 20)
    create_image("d", "qcow2", 1 << 20)
    opened.clear()
    assert img(*words.split()).code == 0
    assert set(opened) == expected


@pytest.mark.parametrize(("words", "workers"), [("", 2), ("-m 1", 1), ("-m 3", 3), ("-m 16", 4), ("-c -m 16", 16)])
def test_as_many_threads_copy_as_the_words_say(
    words: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, img: Callable
) -> None:
    (tmp_path / "a").write_bytes(bytes(512))
    plans = []
    monkeypatch.setattr("blockkit.img.convert.copy", lambda source, target, plan: plans.append(plan))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert img("convert", "-f", "raw", "-O", "qcow2", *words.split(), tmp_path / "a", tmp_path / "b").code == 0
    assert [plan.workers for plan in plans] == [workers]
