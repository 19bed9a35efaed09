"""The drivers that docs/writing-a-driver.md explains behave as every driver must."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.block.node import Kind, Node
from blockkit.errors import (
    BlockkitError,
    CorruptImageError,
    FormatError,
    NoSpaceError,
    OptionError,
    UnknownDriverError,
    UnsupportedOperationError,
)
from blockkit.protocols.file import create_file, open_path
from blockkit.testing.contract import NodeContract, WritableNodeContract, in_threads
from blockkit.testing.memory import MemoryNode
from blockkit.testing.powercut import PowerCutNode

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
PAGE = ROOT / "docs" / "writing-a-driver.md"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


boxed: Any = load("boxed")
tiny: Any = load("tiny")
DRIVERS = [boxed.DRIVER, tiny.DRIVER]


def opened(driver: Any, file: Node) -> Node:
    node: Node = driver.open(file, driver.Options(), None)
    return node


def new_image(driver: Any, size: int) -> MemoryNode:
    file = MemoryNode(grows=True)
    driver.create(file, size, driver.CreateOptions())
    return file


class ExampleContract(WritableNodeContract):
    driver: Any

    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        path = tmp_path / "disk"
        with create_file(path) as file:
            self.driver.create(file, len(contents), self.driver.CreateOptions())
        with opened(self.driver, open_path(path, read_only=False)) as node:
            node.write(0, contents)
            yield node

    def reopen(self, node: Node) -> Node:
        node.close()
        return opened(self.driver, open_path(node.filename))


class TestBoxed(ExampleContract):
    driver = boxed.DRIVER


class TestTiny(ExampleContract):
    driver = tiny.DRIVER


class TestTinyReadOnly(NodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Iterator[Node]:
        file = new_image(tiny.DRIVER, len(contents))
        with opened(tiny.DRIVER, file) as disk:
            disk.write(0, contents)
        with opened(tiny.DRIVER, MemoryNode(file.data, read_only=True)) as node:
            yield node


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the examples known as an installed package makes its drivers known."""
    metadata = tmp_path / "lib" / "examples-1.dist-info"
    metadata.mkdir(parents=True)
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1\n")
    metadata.joinpath("entry_points.txt").write_text("[blockkit.formats]\nboxed = boxed:DRIVER\ntiny = tiny:DRIVER\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["boxed", "tiny"])
def test_an_installed_driver_is_found_by_its_name(name: str) -> None:
    blockkit.create_image("disk", name, 100_000)
    with blockkit.open_image("disk", format=name, read_only=False) as disk:
        assert (disk.driver, disk.size) == (name, 100_000)
        disk.write(70_000, b"hello")
    blockkit.create_image("top.qcow2", "qcow2", backing_file="disk", backing_format=name)
    with blockkit.open_image("top.qcow2") as top:
        assert top.read(69_999, 7) == b"\0hello\0"


@pytest.mark.usefixtures("installed")
def test_an_option_the_example_does_not_have_is_refused() -> None:
    with pytest.raises(OptionError, match="tiny: there is no option 'color'"):
        blockkit.create_image("disk", "tiny", 1, options="color=red")


ODD = """
import dataclasses, sys
from boxed import BoxedDriver, BoxedOptions

NUMBER, MODULE, CLASS = 7, sys, BoxedDriver

class Part:
    name, Options = "part", BoxedOptions

    def open(self, *_args): ...

class Plain(BoxedDriver):
    Options = dict

class Uncallable(BoxedDriver):
    open = None

class Nameless(BoxedDriver):
    name = 5

class Opens(BoxedDriver):
    name = "opens"

    def create(self, file, size, options):
        raise NotImplementedError("to be\\ndone")

class Judges(Opens):
    def judge(self, size, options):
        raise NotImplementedError

PART, PLAIN, UNCALLABLE, NAMELESS, OPENS, JUDGES = Part(), Plain(), Uncallable(), Nameless(), Opens(), Judges()
"""
FORMAT = "expected an object with name, Options, CreateOptions, probe, open, create"
WRONG = {
    "number": (
        "odd:NUMBER",
        f"it is of type int and has no name, Options, CreateOptions, probe, open, create; {FORMAT}",
    ),
    "module": (
        "odd:MODULE",
        f"it is of type module and has no name, Options, CreateOptions, probe, open, create; {FORMAT}",
    ),
    "whole": ("odd", f"it is of type module and has no name, Options, CreateOptions, probe, open, create; {FORMAT}"),
    "class": ("odd:CLASS", f"it is the class BoxedDriver, not an object of it; {FORMAT}"),
    "part": ("odd:PART", f"it is of type Part and has no CreateOptions, probe, create; {FORMAT}"),
    "plain": ("odd:PLAIN", f"its Options is no dataclass; {FORMAT}"),
    "uncallable": ("odd:UNCALLABLE", f"its open cannot be called; {FORMAT}"),
    "nameless": ("odd:NAMELESS", f"its name is no text; {FORMAT}"),
}


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install formats, and a filter, that are none, and two that only open images."""
    metadata = tmp_path / "lib" / "odd-1.dist-info"
    metadata.mkdir(parents=True)
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    formats = {**{name: place for name, (place, _) in WRONG.items()}, "opens": "odd:OPENS", "judges": "odd:JUDGES"}
    lines = [f"{name} = {place}\n" for name, place in {**formats, "raises": "raises:X", "absent": "odd:ABSENT"}.items()]
    text = f"[blockkit.formats]\n{''.join(lines)}[blockkit.filters]\nsieve = odd:NUMBER\n"
    metadata.joinpath("entry_points.txt").write_text(text)
    (tmp_path / "lib" / "odd.py").write_text(ODD)
    (tmp_path / "lib" / "raises.py").write_text("raise RuntimeError('no\\nluck')\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("odd", None)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("name", WRONG)
def test_an_entry_point_that_is_no_driver_is_named_with_what_was_expected(name: str) -> None:
    place, problem = WRONG[name]
    for use in (
        lambda: blockkit.create_image("disk", name, 1000),
        lambda: blockkit.open_image("disk", format=name),
        lambda: blockkit.open_image({"driver": name, "file": MemoryNode(b"x")}),
    ):
        with pytest.raises(UnknownDriverError) as caught:
            use()
        assert str(caught.value) == f"entry point {name!r} of blockkit.formats, {place!r}, is no driver: {problem}"


@pytest.mark.usefixtures("odd")
def test_a_filter_that_is_none_is_named_too() -> None:
    with pytest.raises(
        UnknownDriverError, match=r"'sieve' of blockkit.filters, .*expected an object with name, Options,"
    ):
        blockkit.open_image({"driver": "sieve", "file": {"driver": "raw", "file": MemoryNode(b"x")}})


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(("name", "problem"), [("raises", "no luck"), ("absent", ".*no attribute 'ABSENT'")])
def test_a_module_that_fails_is_named_in_one_line(name: str, problem: str) -> None:
    with pytest.raises(UnknownDriverError, match=f"driver {name!r} from '.*' cannot be loaded: {problem}$"):
        blockkit.open_image("disk", format=name)


@pytest.mark.usefixtures("odd")
def test_a_format_that_only_opens_says_that_its_images_cannot_be_created(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(512))
    for argv in (["create", "-f", "opens", "new", "1M"], ["convert", "-O", "opens", "source", "new"]):
        done = run_blockkit("img", *argv)
        assert (done.returncode, done.stderr) == (1, "blockkit: format opens: images cannot be created\n")
        assert not (tmp_path / "new").exists()
    source.write_bytes(b"precious")
    with pytest.raises(UnsupportedOperationError, match="format opens: images cannot be created"):
        blockkit.create_image("source", "judges", 1 << 20)
    assert source.read_bytes() == b"precious", "it was refused before that was overwritten"


def run_blockkit(*words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(Path.cwd() / "lib"), str(EXAMPLES), str(ROOT)))
    return subprocess.run(
        [sys.executable, "-m", "blockkit", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.mark.usefixtures("installed")
def test_a_misspelt_name_is_suggested_and_nothing_of_the_package_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boxed", None)  # importing it would fail
    for use in (
        lambda: blockkit.open_image("disk", format="boxd"),
        lambda: blockkit.create_image("disk", "boxd", 1),
        lambda: blockkit.open_image({"driver": "boxd", "file": MemoryNode(b"x")}),
    ):
        with pytest.raises(UnknownDriverError, match=r"'boxd'; did you mean 'boxed'$"):
            use()
    with pytest.raises(UnknownDriverError, match=r"known are boxed, qcow2, raw, tiny$"):
        blockkit.open_image("disk", format="xyzzy")


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_an_example_recognises_its_own_images(driver: Any) -> None:
    head = bytes(new_image(driver, 1000).data[:4096])
    assert [other.probe(head) for other in DRIVERS] == [100 if other is driver else 0 for other in DRIVERS]


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_a_mutated_image_is_opened_or_refused(driver: Any, rng: random.Random) -> None:
    file = new_image(driver, 200_000)
    with opened(driver, file) as disk:
        disk.write(0, rng.randbytes(200_000))
    for _ in range(300):
        image = file.data[: rng.choice((len(file.data), rng.randrange(len(file.data))))]
        for _ in range(rng.randrange(4)):
            image[rng.randrange(min(64, len(image)))] = rng.choice((0, 1, 2, 0x7F, 0xFF)) if image else 0
        try:
            disk = opened(driver, MemoryNode(image, grows=True))
        except BlockkitError:
            continue
        disk.read(0, min(disk.size, 1 << 20))
        assert sum(extent.length for extent in disk.extents()) == disk.size


@pytest.mark.parametrize("entry", [1, 65535, 65536 * 9, 1 << 63, (1 << 64) - 65536])
def test_an_entry_that_is_no_cluster_is_refused(entry: int) -> None:
    file = new_image(tiny.DRIVER, 200_000)
    opened(tiny.DRIVER, file).write(0, b"x")
    file.data[16:24] = entry.to_bytes(8, "little")
    with pytest.raises(CorruptImageError):
        opened(tiny.DRIVER, file)


def test_two_entries_with_one_cluster_are_refused() -> None:
    file = new_image(tiny.DRIVER, 200_000)
    with opened(tiny.DRIVER, file) as disk:
        disk.write(0, b"x")
    file.data[24:32] = file.data[16:24]
    with pytest.raises(CorruptImageError):
        opened(tiny.DRIVER, MemoryNode(file.data))


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_what_is_no_image_is_refused(driver: Any) -> None:
    for data in (b"", b"QFI\xfb", bytes(70_000)):
        with pytest.raises(FormatError):
            opened(driver, MemoryNode(data))


def test_a_file_shorter_than_its_disk_is_refused() -> None:
    image = new_image(boxed.DRIVER, 1000).data
    assert opened(boxed.DRIVER, MemoryNode(image)).size == 1000
    for short in (image[:-1], image[: boxed.START], image[: boxed.HEADER.size]):
        with pytest.raises(FormatError):
            opened(boxed.DRIVER, MemoryNode(short))


def test_a_disk_too_large_for_its_table_is_refused() -> None:
    with pytest.raises(OptionError):
        new_image(tiny.DRIVER, tiny.MAX_SIZE + 1)
    new_image(tiny.DRIVER, tiny.MAX_SIZE)


def test_only_written_clusters_are_stored() -> None:
    disk = opened(tiny.DRIVER, new_image(tiny.DRIVER, 10 << 20))
    disk.write(5 << 20, b"x")
    stored = [extent.offset for extent in disk.extents() if extent.kind is Kind.DATA]
    assert stored == [5 << 20]


def test_a_full_disk_below_changes_nothing() -> None:
    class FullNode(MemoryNode):
        def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
            raise NoSpaceError("full")

    disk = opened(tiny.DRIVER, FullNode(new_image(tiny.DRIVER, 200_000).data, grows=True))
    with pytest.raises(NoSpaceError):
        disk.write(0, b"x")
    assert disk.read(0, 1) == b"\0"
    assert disk.map(0, 1).kind is Kind.UNALLOCATED


def test_threads_that_need_one_new_cluster_share_it() -> None:
    class SlowNode(MemoryNode):
        def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
            time.sleep(0.02)
            super()._zero(offset, length, unmap, fast)

    disk = opened(tiny.DRIVER, SlowNode(new_image(tiny.DRIVER, 200_000).data, grows=True))
    in_threads(lambda number: disk.write(number * 100, b"x" * 100))
    assert disk.read(0, 400) == b"x" * 400


def test_a_power_cut_leaves_a_tiny_image_with_old_or_new_bytes(rng: random.Random) -> None:
    file = PowerCutNode(new_image(tiny.DRIVER, 3 * tiny.CLUSTER))
    disk = opened(tiny.DRIVER, file)
    written = b"a" * 1000
    flushed_at = None
    for offset in (0, 2 * tiny.CLUSTER, tiny.CLUSTER - 10):
        disk.write(offset, written)
        disk.flush()
        flushed_at = flushed_at or len(file.log)
    assert flushed_at is not None
    for count in range(len(file.log) + 1):
        for state in file.crashes(count, rng, 12):
            after = opened(tiny.DRIVER, MemoryNode(state))
            assert set(after.read(0, after.size)) <= {0, ord("a")}
            if count >= flushed_at:
                assert after.read(0, 1000) == written


def quoted(text: str) -> list[str]:
    """Return what the page quotes of tiny.py: its blocks of Python that are not run."""
    return re.findall(r"^<!-- not run -->\n+```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_page_quotes_the_examples_as_they_are() -> None:
    page, source = PAGE.read_text(), (EXAMPLES / "tiny.py").read_text()
    assert f"```python\n{(EXAMPLES / 'boxed.py').read_text()}```\n" in page
    assert quoted(page)
    assert [block for block in quoted(page) if textwrap.indent(block, "    ") not in source] == []
