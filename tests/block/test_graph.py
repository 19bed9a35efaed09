from __future__ import annotations

import gc
import os
import struct
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import blockkit
from blockkit.block.driver import Concurrency
from blockkit.block.filters.serial import SerialNode
from blockkit.block.filters.trace import TraceNode
from blockkit.block.opener import MAX_CHAIN
from blockkit.block.policy import ImplicitPolicy
from blockkit.errors import (
    BlockkitError,
    FormatError,
    LockedError,
    NameSyntaxError,
    NodeIOError,
    OptionError,
    PolicyError,
    ReadOnlyError,
    UnknownDriverError,
    UsageError,
)
from blockkit.formats import FORMATS
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.formats.raw import RawCreateOptions, RawNode, RawOptions
from blockkit.protocols.file import HostFile
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blockkit.block.node import Node


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    yield
    # Nothing is left to the collector: whoever fails to open closes at once.
    assert set(os.listdir("/proc/self/fd")) - before == set()


def shape(node: Node) -> Any:
    """Return the drivers of a graph as nested tuples."""
    children = [shape(child) for child in node.children.values()]
    return (node.driver, *children) if children else node.driver


def make_raw(name: str, data: bytes = b"raw!".ljust(4096, b"\xee")) -> None:
    with open(name, "wb") as file:
        file.write(data)


def make_qcow2(
    name: str, backing: str | None = None, backing_format: str | None = "qcow2", size: int = 1 << 20
) -> None:
    blockkit.create_image(
        name, "qcow2", size, backing_file=backing, backing_format=backing and backing_format, check_backing=False
    )


def forget_backing_format(name: str) -> None:
    """Turn the extension that holds the format of the backing file into one nobody knows."""
    with open(name, "r+b") as file:
        head = file.read(4096)
        at = head.index(struct.pack(">I", 0xE2792ACA))
        file.seek(at)
        file.write(struct.pack(">I", 0x12345678))


# -- names, formats, options -------------------------------------------------------------------------------


def test_an_image_is_opened_by_its_name_alone() -> None:
    make_qcow2("a.img")
    make_raw("b.img")
    with blockkit.open_image("a.img") as node:
        assert shape(node) == ("qcow2", "file")
        assert node.filename == "a.img"
        assert node.read_only
    with blockkit.open_image("b.img") as node:
        assert shape(node) == ("raw", "file")


@pytest.mark.parametrize(
    "name",
    [
        "a.img",
        "file:a.img",
        'json:{"driver": "qcow2", "file": {"driver": "file", "filename": "a.img"}}',
        'json:{"driver": "qcow2", "file.filename": "a.img"}',
        'json:{"file.filename": "a.img"}',
        'json:{"filename": "a.img"}',
        {"driver": "qcow2", "file": {"driver": "file", "filename": "a.img"}},
        {"driver": "qcow2", "file.driver": "file", "file.filename": "a.img"},
        {"driver": "qcow2", "file": "a.img"},
        {"driver": "qcow2", "filename": "a.img"},
        {"file": "file:a.img"},
    ],
)
def test_all_names_of_an_image_mean_the_same(name: Any) -> None:
    make_qcow2("a.img")
    with blockkit.open_image(name) as node:
        assert shape(node) == ("qcow2", "file")


def test_a_path_object_is_always_a_path(directory: Path) -> None:
    make_qcow2("./nbd:x")
    with blockkit.open_image(directory / "nbd:x") as node:
        assert node.driver == "qcow2"


def test_a_given_format_wins_over_what_the_bytes_look_like() -> None:
    make_qcow2("a.img")
    with blockkit.open_image("a.img", format="raw") as node:
        assert node.driver == "raw"
        assert node.read(0, 4) == b"QFI\xfb"
    make_raw("b.img")
    with pytest.raises(FormatError):
        blockkit.open_image("b.img", format="qcow2")


def test_a_protocol_alone_is_no_image_and_takes_a_format_on_top() -> None:
    make_qcow2("a.img")
    tree = {"driver": "file", "filename": "a.img"}
    with blockkit.open_image(tree) as node:
        assert shape(node) == "file"
    with blockkit.open_image(tree, format="qcow2") as node:
        assert shape(node) == ("qcow2", "file")


def test_options_come_as_a_mapping_or_as_text() -> None:
    make_raw("a.img")
    for options in ({"offset": "1K", "size": 512}, "offset=1K,size=512"):
        with blockkit.open_image("a.img", format="raw", options=options) as node:
            assert node.size == 512


@pytest.mark.parametrize(
    ("name", "more", "error", "text"),
    [
        (
            "a.img",
            {"options": "ofset=1", "format": "raw"},
            OptionError,
            "raw: there is no option 'ofset'; did you mean 'offset'",
        ),
        ("a.img", {"format": "rwa"}, UnknownDriverError, "there is no format 'rwa'; did you mean 'raw'"),
        ("a.img", {"format": "file"}, UnknownDriverError, "there is no format 'file'"),
        ("a.img", {"cache": "fast"}, OptionError, "file: cache: 'fast' is not one of writeback, "),
        ({"driver": "qcow", "file": "a.img"}, {}, UnknownDriverError, "no driver 'qcow'; did you mean 'qcow2'"),
        ({"driver": 5}, {}, OptionError, "driver 5 is not text"),
        ({"drivr": "raw", "file": "a.img"}, {}, OptionError, "no option 'drivr'; did you mean 'driver'"),
        ({"driver": "raw", "fil": "a.img"}, {}, OptionError, "raw: there is no option 'fil'; did you mean 'file'"),
        ({"driver": "raw", "file": "a.img", "backng": ""}, {}, OptionError, "'backng'; did you mean 'backing'"),
        ({"driver": "raw", "file": "a.img", "read-onl": ""}, {}, OptionError, "'read_onl'; did you mean 'read_only'"),
        ({"filname": "a.img"}, {}, OptionError, "image: there is no option 'filname'; did you mean 'filename'"),
        (
            {"driver": "qcow2", "file": "a.img", "cache_size": -1},
            {},
            OptionError,
            "qcow2: cache_size -1 is not from 0 to 9223372036854775807",
        ),
        (
            {"driver": "qcow2", "file": "a.img", "compression_level": -(10**21)},
            {},
            OptionError,
            "qcow2: compression_level -1000000000000000000000 is not from 1 to 22",
        ),
        (
            {"driver": "window", "file": "a.img", "max_transfer": -1},
            {},
            OptionError,
            "window: max_transfer -1 is not from 0 to 9223372036854775807",
        ),
        ({"driver": "raw"}, {}, OptionError, "raw: option 'file' is needed"),
        ({"driver": "trace"}, {}, OptionError, "trace: option 'file' is needed"),
        ({"driver": "raw", "file": 5}, {}, OptionError, "5 is neither a name nor a group of options"),
        ({"driver": "raw", "file": {"filename": "a.img", "lokking": "off"}}, {}, OptionError, "did you mean 'locking'"),
        ({"driver": "raw", "file": {}}, {}, OptionError, "file: option 'filename' is needed"),
        (
            {"driver": "raw", "file": "a.img", "backing": "a.img"},
            {},
            OptionError,
            "raw: option 'backing' is given, but",
        ),
        ({"driver": "raw", "file": "a.img"}, {"format": "qcow2"}, OptionError, "options say driver 'raw'"),
        (
            {"driver": "raw", "file": "a.img", "read_only": "x"},
            {},
            OptionError,
            "read_only: value: 'x' is not on or off",
        ),
        ({}, {}, OptionError, "option 'file' or 'driver' is needed"),
        ("nbd://host/x", {}, UnknownDriverError, "there is no driver 'nbd'"),
        ("zork://host/x", {}, UnknownDriverError, "there is no driver 'zork'"),
        ("", {}, NameSyntaxError, "empty"),
        ("gone.img", {}, NodeIOError, "gone.img: no such file or directory"),
    ],
)
def test_what_cannot_be_opened_says_why(name: Any, more: dict[str, Any], error: type[BlockkitError], text: str) -> None:
    make_raw("a.img")
    with pytest.raises(error) as caught:
        blockkit.open_image(name, **more)
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_hyphens_in_driver_names_and_options_are_underscores() -> None:
    make_raw("a.img")
    with blockkit.open_image({"driver": "copy-on-read", "file": {"file": "a.img", "read-only": "on"}}) as node:
        assert node.driver == "copy_on_read"


def test_read_only_holds_for_the_whole_graph_unless_writing_is_asked_for() -> None:
    make_qcow2("a.img")
    with blockkit.open_image("a.img") as node, pytest.raises(ReadOnlyError):
        node.write(0, b"x")
    with blockkit.open_image("a.img", read_only=False) as node:
        node.write(0, b"x")
    with blockkit.open_image({"file": "a.img", "read_only": True}, read_only=False) as node:
        assert node.read_only


def test_cache_and_share_reach_the_host_files() -> None:
    make_raw("base.img")
    make_qcow2("a.img", "base.img", "raw")
    with blockkit.open_image("a.img", read_only=False):
        with pytest.raises(LockedError):
            blockkit.open_image("a.img")
        with blockkit.open_image("a.img", share=True) as node:
            assert node.read(0, 4) == b"raw!"
        with blockkit.open_image({"driver": "raw", "file.filename": "a.img", "file.force_share": "on"}) as node:
            assert node.read(0, 4) == b"QFI\xfb"
    with blockkit.open_image("a.img", cache="directsync") as node:
        assert node.backing is not None
        for file in (node.children["file"], node.backing.children["file"]):
            assert file.limits.request_alignment > 1


# -- stacks -----------------------------------------------------------------------------------------------


def test_filters_go_wherever_the_tree_puts_them() -> None:
    make_qcow2("a.img")
    below: list[Any] = []
    above: list[Any] = []
    tree = {
        "driver": "trace",
        "sink": above.append,
        "file": {
            "driver": "qcow2",
            "file": {"driver": "trace", "sink": below.append, "file": {"driver": "file", "filename": "a.img"}},
        },
    }
    with blockkit.open_image(tree, read_only=False) as node:
        assert shape(node) == ("trace", ("qcow2", ("trace", "file")))
        node.write(0, b"x" * 512)
    assert [(event.operation, event.offset, event.length) for event in above][:1] == [("write", 0, 512)]
    assert len(below) > 1


def test_a_filter_on_top_of_a_name_stands_on_an_image_and_inside_a_format_on_storage() -> None:
    make_qcow2("a.img")
    with blockkit.open_image({"driver": "readonly", "file": "a.img"}) as node:
        assert shape(node) == ("readonly", ("qcow2", "file"))
    with blockkit.open_image({"driver": "qcow2", "file": {"driver": "readonly", "file": "a.img"}}) as node:
        assert shape(node) == ("qcow2", ("readonly", "file"))


def test_formats_stand_on_formats() -> None:
    make_qcow2("inner.img", size=1 << 20)
    with blockkit.open_image("inner.img", read_only=False) as node:
        node.write(512, b"inner")
    tree = {"driver": "raw", "offset": 512, "file": {"driver": "qcow2", "file": "inner.img"}}
    with blockkit.open_image(tree) as node:
        assert shape(node) == ("raw", ("qcow2", "file"))
        assert node.read(0, 5) == b"inner"


def test_nodes_in_a_tree_are_used_as_they_are_and_closed_with_it() -> None:
    memory = MemoryNode(b"in memory" + bytes(503))
    with blockkit.open_image({"driver": "trace", "sink": [].append, "file": {"driver": "raw", "file": memory}}) as node:
        assert isinstance(node, TraceNode)
        assert node.read(0, 9) == b"in memory"
    assert memory.closed


def test_a_tree_deeper_than_the_stack_is_refused() -> None:
    make_raw("a.img")
    tree: Any = {"driver": "file", "filename": "a.img"}
    for _ in range(300):
        tree = {"driver": "readonly", "file": tree}
    with pytest.raises(OptionError, match="nested more than 200"):
        blockkit.open_image(tree)


class SerialDriver:
    name: ClassVar[str] = "serial_test"
    Options: ClassVar[type[RawOptions]] = RawOptions
    CreateOptions: ClassVar[type[RawCreateOptions]] = RawCreateOptions
    concurrency: ClassVar[Concurrency] = Concurrency.SERIAL

    def probe(self, head: bytes) -> int:
        return 50 if head.startswith(b"SERIAL") else 0

    def open(self, file: Node, options: RawOptions, opener: object) -> Node:
        return RawNode(file)

    def create(self, file: Node, size: int, options: RawCreateOptions) -> None:
        file.resize(size)


@pytest.fixture
def serial_format(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("blockkit_serial_test")
    module.DRIVER = SerialDriver()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "blockkit_serial_test", module)
    monkeypatch.setitem(FORMATS, "serial_test", "blockkit_serial_test:DRIVER")


@pytest.mark.usefixtures("serial_format")
def test_a_driver_that_takes_one_request_at_a_time_gets_a_lock() -> None:
    make_raw("a.img", b"SERIAL".ljust(512))
    with blockkit.open_image("a.img") as node:
        assert isinstance(node, SerialNode)
        assert shape(node) == ("serial", ("raw", "file"))


@pytest.mark.usefixtures("serial_format")
def test_a_driver_that_says_any_number_of_requests_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialDriver, "concurrency", Concurrency.THREADS)
    make_raw("a.img", b"SERIAL".ljust(512))
    with blockkit.open_image("a.img") as node:
        assert shape(node) == ("raw", "file")


@pytest.mark.usefixtures("serial_format")
def test_a_driver_that_judges_is_asked_before_anything_is_overwritten(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(self: SerialDriver, size: int, options: RawCreateOptions) -> None:
        raise OptionError(f"{size} with {options.preallocation} cannot be")

    monkeypatch.setattr(SerialDriver, "judge", judge, raising=False)
    make_raw("a.img", b"kept".ljust(512))
    with pytest.raises(OptionError, match="1024 with full cannot be"):
        blockkit.create_image("a.img", "serial_test", 1024, options="preallocation=full")
    assert (directory / "a.img").read_bytes() == b"kept".ljust(512)


# -- probing ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("serial_format")
def test_two_formats_that_are_equally_sure_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialDriver, "probe", lambda self, head: 100)
    make_qcow2("a.img")
    with pytest.raises(FormatError, match=r"a.img: could be qcow2 or serial_test; say which"):
        blockkit.open_image("a.img")
    with blockkit.open_image("a.img", format="qcow2") as node:
        assert node.driver == "qcow2"


# -- chains -----------------------------------------------------------------------------------------------


def test_backing_files_are_opened_read_only_and_read_through() -> None:
    make_raw("base.img")
    make_qcow2("mid.img", "base.img", "raw")
    make_qcow2("top.img", "mid.img")
    with blockkit.open_image("top.img", read_only=False) as top:
        assert shape(top) == ("qcow2", "file", ("qcow2", "file", ("raw", "file")))
        assert top.backing is not None
        assert top.backing.read_only
        assert top.read(0, 4) == b"raw!"
        top.write(0, b"TOP!")
        assert top.read(0, 4) == b"TOP!"
    with blockkit.open_image("mid.img") as mid:
        assert mid.read(0, 4) == b"raw!"


def test_a_relative_backing_name_starts_beside_its_image(directory: Path) -> None:
    os.makedirs("one/two")
    make_raw("one/two/base.img")
    make_qcow2("one/mid.img", "two/base.img", "raw")
    make_qcow2("top.img", "one/mid.img")
    for name in ("top.img", str(directory / "top.img"), "./one/../top.img"):
        with blockkit.open_image(name) as top:
            assert top.read(0, 4) == b"raw!"


def test_a_chain_may_wander_beneath_the_directory_of_the_first_image_only() -> None:
    os.makedirs("in/sub")
    make_raw("in/base.img")
    make_raw("out.img")
    make_qcow2("in/sub/mid.img", "../base.img", "raw")
    make_qcow2("in/top.img", "sub/mid.img")
    with blockkit.open_image("in/top.img") as node:
        assert node.read(0, 4) == b"raw!"
    with pytest.raises(PolicyError):
        blockkit.open_image("in/sub/mid.img")
    make_qcow2("in/bad.img", "../out.img", "raw")
    with pytest.raises(
        PolicyError, match=r"in/bad.img: backing file: '../out.img' leads out of .*--backing-policy allow"
    ):
        blockkit.open_image("in/bad.img")
    with blockkit.open_image("in/bad.img", policy=ImplicitPolicy.allow()) as node:
        assert node.read(0, 4) == b"raw!"
    with pytest.raises(PolicyError):
        blockkit.open_image("in/top.img", policy=ImplicitPolicy.deny())


def test_without_backing_nothing_else_is_opened() -> None:
    make_qcow2("top.img", "nowhere.img")
    with pytest.raises(NodeIOError, match=r"top.img: backing file 'nowhere.img': no such file"):
        blockkit.open_image("top.img")
    with blockkit.open_image("top.img", backing=False) as node:
        assert node.backing is None


def test_the_caller_may_name_another_backing_file_or_none() -> None:
    make_raw("base.img")
    make_raw("other.img", b"OTHER".ljust(4096))
    make_qcow2("top.img", "base.img", "raw")
    make_qcow2("alone.img")
    for backing in ("other.img", {"driver": "raw", "file.filename": "other.img"}, {"file": "other.img"}):
        with blockkit.open_image("top.img", options={"backing": backing}) as node:
            assert node.read(0, 5) == b"OTHER"
    with blockkit.open_image("top.img", options="backing.file.filename=other.img") as node:
        assert node.read(0, 5) == b"OTHER"
    for nothing in ("", None):
        with blockkit.open_image("top.img", options={"backing": nothing}) as node:
            assert node.backing is None
            assert node.read(0, 5) == bytes(5)
    with blockkit.open_image("top.img", options={"backing": MemoryNode(b"memory")}) as node:
        assert node.read(0, 8) == b"memory\0\0"
    with pytest.raises(OptionError, match="records no such file"):
        blockkit.open_image("alone.img", options={"backing": "base.img"})


def test_the_format_of_a_backing_file_is_not_guessed_by_default() -> None:
    make_raw("base.img")
    make_qcow2("top.img", "base.img", "raw")
    forget_backing_format("top.img")
    with pytest.raises(PolicyError, match=r"top.img: backing file 'base.img': its format is not recorded"):
        blockkit.open_image("top.img")
    for policy in (ImplicitPolicy.allow(), ImplicitPolicy.beneath(probing=True)):
        with blockkit.open_image("top.img", read_only=False, policy=policy) as node:
            assert node.read(0, 4) == b"raw!"
            assert node.backing is not None
            assert node.backing.read_only
    with blockkit.open_image("top.img", options="backing.driver=raw,backing.file.filename=base.img") as node:
        assert node.read(0, 4) == b"raw!"


def test_a_raw_backing_file_is_raw_whatever_is_in_it() -> None:
    make_raw("secret", b"SECRET".ljust(4096))
    make_qcow2("evil.img", "secret", "raw")
    make_qcow2("top.img", "evil.img", "raw")
    with blockkit.open_image("top.img") as node:
        assert node.read(0, 4) == b"QFI\xfb"


def test_an_unknown_backing_format_is_told_with_the_image() -> None:
    make_raw("base.img")
    make_qcow2("top.img", "base.img", "raw")
    with open("top.img", "r+b") as file:
        head = file.read(4096)
        file.seek(head.index(b"raw", 100))
        file.write(b"rwa")
    with pytest.raises(UnknownDriverError, match=r"top.img: backing file 'base.img': there is no format 'rwa'"):
        blockkit.open_image("top.img")


def test_a_protocol_recorded_as_format_means_raw() -> None:
    make_raw("base.img")
    make_qcow2("top.img", "base.img", "raw")
    with open("top.img", "r+b") as file:
        head = file.read(4096)
        at = head.index(struct.pack(">II", 0xE2792ACA, 3))
        file.seek(at)
        file.write(struct.pack(">II", 0xE2792ACA, 4) + b"file")
    with blockkit.open_image("top.img") as node:
        assert node.read(0, 4) == b"raw!"


def test_a_name_with_a_protocol_is_followed_only_when_allowed() -> None:
    make_raw("base.img")
    make_qcow2("top.img", 'json:{"driver":"raw","file.filename":"base.img"}', "raw")
    for policy in (None, ImplicitPolicy.allow()):
        with pytest.raises(PolicyError, match="names a protocol"):
            blockkit.open_image("top.img", policy=policy)
    with blockkit.open_image("top.img", policy=ImplicitPolicy.allow(protocols=True)) as node:
        assert node.read(0, 4) == b"raw!"
    make_qcow2("net.img", "nbd://host/x", "raw")
    with pytest.raises(UnknownDriverError, match="nbd"):
        blockkit.open_image("net.img", policy=ImplicitPolicy.allow(protocols=True))


def test_an_image_that_is_not_in_a_file_names_none() -> None:
    make_qcow2("top.img", "base.img", "raw")
    with open("top.img", "rb") as file:
        memory = MemoryNode(file.read(), read_only=True)
    with pytest.raises(PolicyError, match="not in a file"):
        blockkit.open_image({"driver": "qcow2", "file": memory})
    assert memory.closed


@pytest.mark.parametrize("policy", [None, ImplicitPolicy.allow()])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_loop_is_told_apart_by_file_not_by_name(policy: ImplicitPolicy | None, read_only: bool) -> None:
    os.makedirs("sub")
    make_qcow2("self.img", "self.img")
    make_qcow2("a.img", "sub/../b.img")
    make_qcow2("b.img", "c.img")
    os.symlink("a.img", "link.img")
    os.link("a.img", "hard.img")
    make_qcow2("c.img", "hard.img")
    make_qcow2("d.img", "e.img")
    make_qcow2("e.img", "sub/../d.img", "raw")
    for name in ("self.img", "a.img", "link.img", "d.img"):
        with pytest.raises(PolicyError, match="the chain is a loop"):
            blockkit.open_image(name, policy=policy, read_only=read_only)


def test_two_overlays_may_share_a_backing_file_in_one_graph() -> None:
    make_raw("base.img")
    make_qcow2("a.img", "base.img", "raw")
    with blockkit.open_image("a.img") as a, blockkit.open_image("a.img") as b:
        assert a.read(0, 4) == b.read(0, 4) == b"raw!"


def make_chain(length: int) -> str:
    """Make ``length`` images on top of a raw one and return the name of the top."""
    make_raw("0.img")
    make_qcow2("1.img", "0.img", "raw")
    with open("1.img", "rb") as file:
        template = file.read()
    at = template.index(b"0.img")
    format_at = template.index(struct.pack(">II", 0xE2792ACA, 3))
    for number in range(2, length + 1):
        name = f"{number - 1}.img".encode()
        image = bytearray(template)
        image[8:20] = struct.pack(">QI", 1024, len(name))
        image[1024 : 1024 + len(name)] = name
        assert at < 1024
        image[format_at : format_at + 16] = struct.pack(">II8s", 0xE2792ACA, 5, b"qcow2")
        with open(f"{number}.img", "wb") as file:
            file.write(image)
    return f"{length}.img"


@pytest.mark.parametrize("length", [1, 150, MAX_CHAIN])
def test_a_deep_chain_opens_and_reads(length: int) -> None:
    with blockkit.open_image(make_chain(length)) as node:
        assert node.read(0, 4) == b"raw!"
        depth, below = 0, node
        while below.backing is not None:
            depth, below = depth + 1, below.backing
        assert depth == length


def test_a_chain_that_is_too_deep_is_one_line() -> None:
    with pytest.raises(PolicyError) as caught:
        blockkit.open_image(make_chain(1000))
    assert f"more than {MAX_CHAIN} images stand on each other" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_failing_anywhere_in_a_chain_closes_all_of_it() -> None:
    make_chain(40)
    with open("5.img", "r+b") as file:
        file.write(b"no image")
    for read_only in (True, False):
        with pytest.raises(FormatError):
            blockkit.open_image("40.img", read_only=read_only)
        # The locks are gone as well.
        with open("5.img", "rb"), blockkit.open_image("40.img", backing=False, read_only=False):
            pass


def test_a_file_exchanged_while_it_is_opened_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    make_raw("base.img")
    make_raw("secret", b"SECRET".ljust(4096))
    make_qcow2("top.img", "base.img", "raw")
    real: Callable[..., HostFile] = HostFile.open

    def exchange(path: Any, **more: Any) -> HostFile:
        if str(path).endswith("base.img"):
            os.replace("secret", "base.img")
        return real(path, **more)

    monkeypatch.setattr(HostFile, "open", staticmethod(exchange))
    with pytest.raises(PolicyError, match="was exchanged while it was opened"):
        blockkit.open_image("top.img")


# -- creating ---------------------------------------------------------------------------------------------


def test_an_image_is_created_with_options_of_either_form() -> None:
    for options in ({"cluster-size": "4K"}, "cluster_size=4K"):
        blockkit.create_image("a.img", "qcow2", 12345 * 512, options=options)
        with blockkit.open_image("a.img") as node:
            assert isinstance(node, Qcow2Node)
            assert node.size == 12345 * 512
            assert node.limits.optimal_transfer in (0, 4096)


def test_the_size_is_that_of_the_backing_file_if_none_is_given() -> None:
    os.makedirs("sub")
    make_raw("sub/base.img", bytes(8192))
    blockkit.create_image("sub/a.img", "qcow2", backing_file="base.img", backing_format="raw")
    with blockkit.open_image("sub/a.img") as node:
        assert node.size == 8192
        assert node.backing is not None


def test_a_backing_file_may_come_as_a_creation_option() -> None:
    make_raw("base.img")
    blockkit.create_image("a.img", "qcow2", options="backing_file=base.img,backing_fmt=raw")
    with blockkit.open_image("a.img") as node:
        assert node.read(0, 4) == b"raw!"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": None}, "needs a size"),
        ({"size": -1}, "is negative"),
        ({"format": "rwa"}, "did you mean 'raw'"),
        ({"options": "cluster_sise=1"}, "did you mean 'cluster_size'"),
        ({"backing_file": "base.img"}, "without its format"),
        ({"backing_format": "raw"}, "without a backing file"),
        ({"backing_file": "base.img", "backing_format": "rwa"}, "did you mean 'raw'"),
        ({"backing_file": "gone.img", "backing_format": "raw"}, "gone.img: no such file"),
        ({"backing_file": "base.img", "backing_format": "raw", "format": "raw"}, "have no backing file"),
        ({"name": {"driver": "file"}}, "option 'filename' is needed"),
        ({"name": "nbd://host/x"}, "there is no protocol 'nbd'"),
        ({"options": {"cluster_size": 3}}, "cluster"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_mistake_is_found_before_anything_is_written(arguments: dict[str, Any], text: str, exists: bool) -> None:
    make_raw("base.img")
    if exists:
        make_raw("new.img", b"precious")
    arguments = {"name": "new.img", "format": "qcow2", "size": 1 << 20, **arguments}
    with pytest.raises(BlockkitError) as caught:
        blockkit.create_image(**arguments)
    assert text in str(caught.value)
    assert isinstance(caught.value, UsageError | NodeIOError)
    if exists and "cluster" not in text:
        with open("new.img", "rb") as file:
            assert file.read() == b"precious"
    if not exists:
        assert not os.path.exists("new.img")


def test_an_unfinished_image_is_removed_if_it_was_not_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from blockkit.formats.raw import RawDriver

    def fail(self: RawDriver, file: Node, size: int, options: object) -> None:
        file.resize(100)
        raise NodeIOError("the disk broke")

    monkeypatch.setattr(RawDriver, "create", fail)
    make_raw("there.img")
    for name in ("there.img", "new.img"):
        with pytest.raises(NodeIOError, match="the disk broke"):
            blockkit.create_image(name, "raw", 100)
    assert os.path.exists("there.img")
    assert not os.path.exists("new.img")


def test_an_image_in_use_is_not_created_anew() -> None:
    make_raw("a.img")
    with blockkit.open_image("a.img"):
        with pytest.raises(LockedError):
            blockkit.create_image("a.img", "raw", 10)
        assert os.path.getsize("a.img") == 4096


@pytest.mark.interop
def test_qemu_reads_a_chain_made_here(qemu_img: Callable[..., str], qemu_io: Callable[..., str]) -> None:
    make_raw("base.img", b"\x11" * 65536)
    make_qcow2("mid.img", "base.img", "raw", size=1 << 20)
    make_qcow2("top.img", "mid.img", size=1 << 20)
    with blockkit.open_image("top.img", read_only=False) as node:
        node.write(4096, b"\x22" * 4096)
    qemu_io("top.img", "read -P 0x11 0 4k", "read -P 0x22 4k 4k", "read -P 0x11 8k 56k", "read -P 0 64k 960k")
    assert "mid.img" in qemu_img("info", "--backing-chain", "top.img")


@pytest.mark.interop
def test_a_chain_made_by_qemu_is_read_here(qemu_img: Callable[..., str], qemu_io: Callable[..., str]) -> None:
    make_raw("base.img", b"\x11" * 65536)
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", "mid.img", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "mid.img", "-F", "qcow2", "top.img")
    qemu_io("top.img", "write -P 0x22 4k 4k")
    with blockkit.open_image("top.img") as node:
        assert node.read(0, 1 << 20) == (b"\x11" * 4096 + b"\x22" * 4096).ljust(65536, b"\x11").ljust(1 << 20, b"\0")
