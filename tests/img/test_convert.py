"""Conversions, judged by qemu-img: the same contents, and nothing for a check to find."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from blockkit.block.copy import CopyPlan
from blockkit.block.copying.compressed import CompressedCopier
from blockkit.block.graph import create_image, open_image
from blockkit.block.policy import ImplicitPolicy
from blockkit.errors import BlockkitError, CorruptImageError, PolicyError, UsageError
from blockkit.formats import FORMATS, raw
from blockkit.formats.raw import RawCreateOptions, RawOptions
from blockkit.img.convert import convert
from blockkit.img.progress import Silent
from blockkit.img.request import ConvertRequest

SIZE = (11 << 20) + 512 * 7

#: Runs a conversion in a process of its own, so that its standard streams can be pipes.
PROGRAM = """
import sys
from blockkit.img.convert import convert
from blockkit.img.request import ConvertRequest
convert(ConvertRequest(**eval(sys.argv[1])))
"""


def fill(path: Path, size: int, seed: int) -> bytes:
    """Make a raw file of holes, written zeros, text-like and random runs of odd lengths."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(40):
            offset = rng.randrange(size)
            length = min(size - offset, rng.choice([1, 100, 4096, 70_000, 300_000]))
            kind = rng.random()
            file.seek(offset)
            if kind < 0.4:
                file.write(rng.randbytes(length))
            elif kind < 0.8:
                file.write((b"abcdefgh" * (length // 8 + 1))[:length])
            else:
                file.write(bytes(length))
    return path.read_bytes()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.raw"
    return path, fill(path, SIZE, 5)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (command, done.stdout[-500:], done.stderr[-500:])
    return done.stdout


def contents(path: Path, format_: str) -> bytes:
    with open_image(path, format=format_) as node:
        return node.read(0, node.size)


OPTIONS = [
    {},
    {"cluster_size": "512"},
    {"cluster_size": "4k", "refcount_bits": "1"},
    {"cluster_size": "2M", "refcount_bits": "64"},
    {"compat": "0.10"},
    {"preallocation": "metadata"},
    {"lazy_refcounts": "on", "compression_type": "zstd"},
]


@pytest.mark.interop
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("sparse_size", [4096, 0])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options.values()) or "default")
def test_what_was_converted_reads_the_same_to_qemu(qemu_img, source, tmp_path, options, sparse_size, compress):
    path, data = source
    target, back = tmp_path / "target.qcow2", tmp_path / "back.raw"
    convert(
        ConvertRequest(
            inputs=(str(path),),
            output=str(target),
            source_format="raw",
            output_format="qcow2",
            options=options,
            compress=compress,
            sparse_size=sparse_size,
        )
    )
    run("qemu-img", "check", "-q", str(target))
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(path), str(target))
    convert(ConvertRequest(inputs=(str(target),), output=str(back), sparse_size=sparse_size))
    assert back.read_bytes() == data


@pytest.mark.interop
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
def test_over_a_backing_file_only_the_top_layer_is_copied(qemu_img, source, tmp_path, compress):
    path, _ = source
    base, overlay, target = (str(tmp_path / name) for name in ("base.qcow2", "overlay.qcow2", "target.qcow2"))
    run("qemu-img", "convert", "-O", "qcow2", "-f", "raw", str(path), base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay, str(SIZE + (2 << 20)))
    for command in ("write -P 7 1000k 300k", "write -z 5M 1M", "write -P 9 10M 1k", "write -P 3 12M 64k"):
        run("qemu-io", "-c", command, overlay)
    convert(
        ConvertRequest(
            inputs=(overlay,),
            output=target,
            output_format="qcow2",
            backing_file=base,
            backing_format="qcow2",
            compress=compress,
        )
    )
    run("qemu-img", "check", "-q", target)
    run("qemu-img", "compare", overlay, target)
    assert Path(target).stat().st_size < 2 << 20


@pytest.mark.interop
def test_several_sources_are_joined_as_qemu_joins_them(qemu_img, source, tmp_path):
    path, _ = source
    other = tmp_path / "other.raw"
    fill(other, 3 << 20, 8)
    ours, theirs = tmp_path / "ours.qcow2", tmp_path / "theirs.raw"
    convert(ConvertRequest(inputs=(str(path), str(other), str(path)), output=str(ours), output_format="qcow2"))
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", str(path), str(other), str(path), str(theirs))
    run("qemu-img", "compare", "-F", "raw", str(ours), str(theirs))
    run("qemu-img", "check", "-q", str(ours))


@pytest.mark.interop
def test_a_source_with_half_a_sector_fills_it_up_as_qemu_does(qemu_img, tmp_path):
    first, second = tmp_path / "a.raw", tmp_path / "b.raw"
    first.write_bytes(b"a" * 1000)
    second.write_bytes(b"b" * 700)
    ours, theirs = tmp_path / "ours.raw", tmp_path / "theirs.raw"
    names = [str(first), str(second), str(first)]
    convert(ConvertRequest(inputs=tuple(names), output=str(ours), source_format="raw", output_format="raw"))
    qemu_img("convert", "-f", "raw", "-O", "raw", *names, theirs)
    assert ours.read_bytes() == theirs.read_bytes()


def piped(request: dict[str, object], *, stdin: bytes | BinaryIO = b"") -> subprocess.CompletedProcess[bytes]:
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    return subprocess.run([sys.executable, "-c", PROGRAM, repr(request)], capture_output=True, timeout=120, **given)


@pytest.mark.interop
@pytest.mark.parametrize(
    "options", [*OPTIONS[:5], {"preallocation": "full"}], ids=lambda options: ",".join(options.values()) or "default"
)
def test_qcow2_goes_to_a_pipe_in_one_pass(qemu_img, source, tmp_path, options):
    path, _ = source
    target = tmp_path / "target.qcow2"
    request = {
        "inputs": (str(path),),
        "output": "-",
        "source_format": "raw",
        "output_format": "qcow2",
        "options": options,
    }
    done = piped(request)
    assert done.returncode == 0, done.stderr
    target.write_bytes(done.stdout)
    run("qemu-img", "check", "-q", str(target))
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(path), str(target))


@pytest.mark.interop
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
def test_qcow2_is_made_from_a_pipe_of_unknown_length(qemu_img, source, tmp_path, compress):
    path, data = source
    target = tmp_path / "target.qcow2"
    request = {"inputs": ("-",), "output": str(target), "output_format": "qcow2", "compress": compress}
    done = piped(request, stdin=data)
    assert done.returncode == 0, done.stderr
    run("qemu-img", "check", "-q", str(target))
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(path), str(target))


def test_raw_goes_through_pipes_unchanged(source, tmp_path):
    path, data = source
    target = tmp_path / "target.raw"
    assert piped({"inputs": ("-",), "output": str(target)}, stdin=data).returncode == 0
    assert target.read_bytes() == data
    assert piped({"inputs": (str(path),), "output": "-", "source_format": "raw"}).stdout == data


class Plain:
    """A format of another package that does what it must, and nothing more."""

    name = "plain"
    Options = RawOptions
    CreateOptions = RawCreateOptions
    probe, open, create = raw.DRIVER.probe, raw.DRIVER.open, raw.DRIVER.create


class Streaming(Plain):
    def write_stream(self, source, options, write, *, over_backing, advance):
        assert options == RawCreateOptions(preallocation="full")
        assert not over_backing
        write(b"PLAIN" + source.read(0, source.size))
        advance(source.size)


class Compressing(Plain):
    compresses = True


@pytest.fixture
def plain(monkeypatch, tmp_path):
    """``plain(driver)`` makes ``driver`` the format ``plain``, and standard output a file; returns the file."""

    def install(driver: object) -> Path:
        monkeypatch.setattr(raw, "PLAIN", driver, raising=False)
        monkeypatch.setitem(FORMATS, "plain", "blockkit.formats.raw:PLAIN")
        monkeypatch.setattr(sys, "stdout", stdout)
        return tmp_path / "stdout"

    with (tmp_path / "stdout").open("w") as stdout:
        yield install


def test_a_format_that_cannot_be_streamed_is_refused_by_name(plain, source):
    stdout = plain(Plain())
    with pytest.raises(UsageError, match=r"^convert: format plain cannot be written to a pipe$"):
        convert(ConvertRequest(inputs=(str(source[0]),), output="-", source_format="raw", output_format="plain"))
    assert stdout.read_bytes() == b""


def test_a_driver_says_whether_it_compresses_before_a_target_is_made(plain, source, tmp_path):
    target = tmp_path / "target"
    request = ConvertRequest(
        inputs=(str(source[0]),), output=str(target), source_format="raw", output_format="plain", compress=True
    )
    plain(Plain())
    with pytest.raises(UsageError, match="-c: images of format plain cannot store compressed data"):
        convert(request)
    assert not target.exists()
    plain(Compressing())  # which is not true: its nodes cannot
    with pytest.raises(BlockkitError, match="cannot store compressed data") as caught:
        convert(request)
    assert "-c:" not in str(caught.value)


def test_a_format_of_another_package_goes_to_a_pipe_its_own_way(plain, source):
    path, data = source
    stdout = plain(Streaming())
    request = ConvertRequest(
        inputs=(str(path),),
        output="-",
        source_format="raw",
        output_format="plain",
        options={"preallocation": "full"},
    )
    convert(request)
    assert stdout.read_bytes() == b"PLAIN" + data


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"backing_file": "b", "backing_format": "raw"}, "raw: images of this format have no backing file"),
        ({"options": {"cluster_size": "64k"}}, "raw: there is no option 'cluster_size'"),
        ({"output_format": "qcow2", "backing_file": "b"}, "'b' is given without its format"),
    ],
)
def test_options_that_a_new_image_would_not_take_are_not_taken_for_a_pipe(plain, source, more, message):
    stdout = plain(Plain())
    with pytest.raises(UsageError, match=message):
        convert(ConvertRequest(inputs=(str(source[0]),), output="-", source_format="raw", **more))
    assert stdout.read_bytes() == b""


@pytest.mark.interop
def test_a_pipe_fills_compressed_clusters_that_are_larger_than_a_piece(qemu_img, tmp_path):
    data = random.Random(3).randbytes(5 << 20)
    target = tmp_path / "target.qcow2"
    request = {"inputs": ("-",), "output": str(target), "source_format": "raw", "output_format": "qcow2"}
    done = piped({**request, "compress": True, "options": {"cluster_size": "2M"}}, stdin=data)
    assert done.returncode == 0, done.stderr
    assert contents(target, "qcow2")[: len(data)] == data
    qemu_img("check", target)


def test_compressed_clusters_cannot_go_to_a_pipe(source):
    path, _ = source
    done = piped({"inputs": (str(path),), "output": "-", "output_format": "qcow2", "compress": True})
    assert done.returncode != 0
    assert b"-c cannot go to standard output" in done.stderr


def test_an_existing_target_keeps_what_lies_behind_its_new_contents(source, tmp_path):
    path, data = source
    target = tmp_path / "target.qcow2"
    create_image(target, "qcow2", SIZE + (1 << 20))
    with open_image(target, read_only=False) as node:
        node.write(0, b"old" * 1000)
        node.write(SIZE + 4096, b"old")
    convert(ConvertRequest(inputs=(str(path),), output=str(target), output_format="qcow2", create=False))
    assert contents(target, "qcow2") == data + bytes(4096) + b"old" + bytes((1 << 20) - 4099)


def test_a_target_that_is_too_small_is_refused(source, tmp_path):
    path, _ = source
    target = tmp_path / "target.raw"
    target.write_bytes(bytes(1024))
    with pytest.raises(UsageError, match="fewer than"):
        convert(ConvertRequest(inputs=(str(path),), output=str(target), create=False))


def test_a_failed_conversion_leaves_no_target(source, tmp_path):
    path, _ = source
    broken = tmp_path / "broken.qcow2"
    convert(ConvertRequest(inputs=(str(path),), output=str(broken), output_format="qcow2", compress=True))
    with broken.open("r+b") as file:
        file.seek(5 * 65536 + 100)
        file.write(b"\xff" * 65536)
    target = tmp_path / "target.raw"
    with pytest.raises(BlockkitError):
        convert(ConvertRequest(inputs=(str(broken),), output=str(target)))
    assert not target.exists()


def test_an_interrupted_conversion_leaves_no_target(source, tmp_path):
    path, _ = source
    target = tmp_path / "target.raw"

    class Interrupting(Silent):
        def advance(self, count: int) -> None:
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(ConvertRequest(inputs=(str(path),), output=str(target), workers=1, progress=Interrupting))
    assert not target.exists()
    assert threading.active_count() == 1


def test_salvage_replaces_what_cannot_be_read_and_says_where(source, tmp_path):
    path, data = source
    bad = next(at for at in range(65536, SIZE, 4096) if any(data[at : at + 4096]))
    tree = {
        "driver": "faults",
        "rules": [{"operation": "read", "start": bad, "end": bad + 4096}],
        "file": {"driver": "file", "filename": str(path)},
    }
    target = tmp_path / "target.raw"
    name = "json:" + json.dumps({"driver": "raw", "file": tree})
    result = convert(ConvertRequest(inputs=(name,), output=str(target), salvage=True))
    expected = bytearray(data)
    for offset, length, _ in result.unreadable:
        expected[offset : offset + length] = bytes(length)
    assert result.unreadable_size == 4096
    assert [(offset, length) for offset, length, _ in result.unreadable] == [(bad, 4096)]
    assert target.read_bytes() == expected


def test_progress_adds_up_to_the_size_of_the_disk(source, tmp_path):
    path, _ = source
    seen = []

    class Counting(Silent):
        def __init__(self, total: int) -> None:
            seen.append(total)

        def advance(self, count: int) -> None:
            seen.append(count)

    for output_format, compress in (("raw", False), ("qcow2", False), ("qcow2", True)):
        seen.clear()
        convert(
            ConvertRequest(
                inputs=(str(path),),
                output=str(tmp_path / "target"),
                output_format=output_format,
                compress=compress,
                progress=Counting,
            )
        )
        assert sum(seen[1:]) == seen[0] == SIZE


def test_several_sources_do_not_stand_on_one_backing_file():
    with pytest.raises(UsageError, match="convert: -B takes one source"):
        ConvertRequest(inputs=("a", "b"), output="c", output_format="qcow2", backing_file="d", backing_format="raw")


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_copy_offload_lets_the_file_system_copy(source, tmp_path, format_, monkeypatch):
    path, data = source
    if format_ == "qcow2":
        convert(ConvertRequest(inputs=(str(path),), output=str(tmp_path / "source.qcow2"), output_format="qcow2"))
        path = tmp_path / "source.qcow2"
    copied = []

    def copy_file_range(*where):
        copied.append(system(*where))
        return copied[-1]

    system = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    target = tmp_path / "target.raw"
    convert(ConvertRequest(inputs=(str(path),), output=str(target), copy_offload=True))
    assert target.read_bytes() == data
    assert sum(copied) > SIZE // 8


@pytest.mark.parametrize("problem", ["EXDEV", "EOPNOTSUPP"])
def test_where_the_file_system_cannot_copy_it_is_asked_once(source, tmp_path, problem, monkeypatch):
    path, data = source
    asked = []

    def copy_file_range(*where):
        asked.append(where)
        raise OSError(getattr(errno, problem), problem)

    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    convert(ConvertRequest(inputs=(str(path),), output=str(tmp_path / "target.raw"), copy_offload=True, workers=1))
    assert (tmp_path / "target.raw").read_bytes() == data
    assert len(asked) == 1


def test_a_source_that_somebody_writes_to_needs_force_share(source, tmp_path):
    path, data = source
    target = tmp_path / "target.raw"
    with open_image(path, format="raw", read_only=False):
        with pytest.raises(BlockkitError):
            convert(ConvertRequest(inputs=(str(path),), source_format="raw", output=str(target)))
        convert(ConvertRequest(inputs=(str(path),), source_format="raw", output=str(target), force_share=True))
    assert target.read_bytes() == data
    assert not os.path.exists(str(target) + ".tmp")


def overlay(path: Path, backing: Path, size: int = SIZE) -> None:
    create_image(path, "qcow2", size, backing_file=str(backing), backing_format="qcow2", check_backing=False)


def test_the_policy_holds_for_what_a_named_backing_file_names(source, tmp_path):
    path, data = source
    secret, inside = tmp_path / "secret.qcow2", tmp_path / "images" / "base.qcow2"
    inside.parent.mkdir()
    create_image(secret, "qcow2", SIZE)
    overlay(inside, secret)
    target = tmp_path / "target.qcow2"
    wanted = {
        "inputs": (str(path),), "output": str(target), "output_format": "qcow2",
        "backing_file": str(inside), "backing_format": "qcow2",
    }  # fmt: skip
    with pytest.raises(PolicyError, match="leads out"):
        convert(ConvertRequest(**wanted))
    assert not target.exists()
    convert(ConvertRequest(**wanted, policy=ImplicitPolicy.allow()))
    # The named file itself may lie anywhere, and so may what lies beside it.
    beside = inside.with_name("secret.qcow2")
    secret.rename(beside)
    inside.unlink()
    overlay(inside, beside)
    convert(ConvertRequest(**wanted))
    with open_image(target, policy=ImplicitPolicy.allow()) as node:
        assert node.read(0, SIZE) == data


def test_nothing_is_overwritten_that_the_target_format_cannot_hold(source, tmp_path):
    path, _ = source
    target = tmp_path / "target.raw"
    target.write_bytes(b"precious" * SIZE)
    for create in (True, False):
        with pytest.raises(BlockkitError, match="cannot store compressed data") as caught:
            convert(ConvertRequest(inputs=(str(path),), output=str(target), compress=True, create=create))
        assert not hasattr(caught.value, "__notes__")
    assert target.read_bytes() == b"precious" * SIZE


@pytest.mark.parametrize("name", ["top", "base", "other", "file:./top"])
@pytest.mark.parametrize("create", [True, False])
def test_a_target_is_no_source_and_no_backing_file(name, create, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_image("base", "qcow2", 1 << 20)
    overlay(Path("top"), Path("base"), 1 << 20)
    os.link("base", "other")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    wanted = {"output": name, "output_format": "qcow2", "create": create, "force_share": True}
    with pytest.raises(UsageError, match="is the source"):
        convert(ConvertRequest(inputs=("top",), **wanted))
    if create:
        create_image("unrelated", "raw", 1 << 20)
        with pytest.raises(UsageError, match="is the backing file"):
            convert(ConvertRequest(inputs=("unrelated",), backing_file="top", backing_format="qcow2", **wanted))
    assert {path: path.read_bytes() for path in before} == before


def test_into_an_overlay_of_the_source_is_no_conversion_onto_itself(source, tmp_path):
    path, data = source
    target = tmp_path / "target.qcow2"
    create_image(target, "qcow2", backing_file=str(path), backing_format="raw")
    convert(ConvertRequest(inputs=(str(path),), output=str(target), output_format="qcow2", create=False))
    assert contents(target, "qcow2")[:SIZE] == data


@pytest.mark.parametrize("create", [True, False])
def test_a_failure_removes_no_file_that_existed(source, tmp_path, create):
    path, _ = source
    bad = {"driver": "faults", "rules": [{"operation": "read", "start": 8192, "end": SIZE}], "file.filename": str(path)}
    name = "json:" + json.dumps({"driver": "raw", "file": bad})
    target, link = tmp_path / "target.raw", tmp_path / "link"
    target.write_bytes(bytes(SIZE))
    link.symlink_to(target)
    with pytest.raises(BlockkitError) as caught:
        convert(ConvertRequest(inputs=(name,), output=str(link), create=create))
    assert caught.value.__notes__ == [f"{link} was overwritten and is unfinished"]
    assert link.is_symlink()
    assert target.exists()


def test_a_file_as_standard_input_has_the_format_that_is_named(source, tmp_path):
    path, data = source
    image, target = tmp_path / "image.qcow2", tmp_path / "target.raw"
    convert(ConvertRequest(inputs=(str(path),), output=str(image), output_format="qcow2"))
    with image.open("rb") as stdin:
        done = piped({"inputs": ("-",), "output": str(target), "source_format": "qcow2"}, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes()[:SIZE] == data
    with image.open("rb") as stdin:
        assert piped({"inputs": ("-",), "output": str(target)}, stdin=stdin).returncode == 0
    assert target.read_bytes() == image.read_bytes()


@pytest.mark.parametrize("way", ["file", "to a pipe", "to a pipe as qcow2", "from a pipe"])
def test_the_rate_limit_holds_whatever_the_way(way, tmp_path):
    path, target = tmp_path / "source.raw", str(tmp_path / "target")
    path.write_bytes(b"x" * (2 << 20))
    request = {"inputs": (str(path),), "output": target, "source_format": "raw", "rate_limit": 4 << 20}
    if way.startswith("to a pipe"):
        request |= {"output": "-", "output_format": "qcow2" if "qcow2" in way else "raw"}
    data = b""
    if way == "from a pipe":
        request["inputs"], data = ("-",), path.read_bytes()
    begin = time.monotonic()
    assert piped(request, stdin=data).returncode == 0
    assert time.monotonic() - begin > 0.5


def test_salvage_that_cannot_be_had_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--salvage cannot go to standard output"):
        ConvertRequest(inputs=("a",), output="-", salvage=True)
    done = piped({"inputs": ("-",), "output": str(tmp_path / "a"), "salvage": True}, stdin=b"x")
    assert b"--salvage cannot read standard input" in done.stderr
    assert not (tmp_path / "a").exists()


def spoil(path: Path, table: str, index: int) -> None:
    """Make an entry of the L1 table, or of the first L2 table, the offset of no cluster."""
    with path.open("r+b") as file:
        file.seek(40)
        at = int.from_bytes(file.read(8), "big")
        if table == "L2":
            file.seek(at)
            at = int.from_bytes(file.read(8), "big") & 0x00FFFFFFFFFFFE00
        file.seek(at + index * 8)
        entry = int.from_bytes(file.read(8), "big")
        file.seek(at + index * 8)
        file.write((entry | 0x200 | 1 << 63).to_bytes(8, "big"))


@pytest.mark.parametrize("compress", [False, True])
def test_salvage_survives_bad_tables_and_loses_only_what_they_map(tmp_path, rng, compress):
    path, cluster = tmp_path / "source.qcow2", 4096
    size = 5 << 20  # three L2 tables of 2 MiB each, the last one half used
    data = rng.randbytes(size)
    create_image(path, "qcow2", size, options={"cluster_size": "4k"})
    with open_image(path, read_only=False) as node:
        node.write(0, data)
    lost = [(7 * cluster, cluster), (9 * cluster, 2 * cluster), (2 << 20, 2 << 20)]
    for index in (7, 9, 10):
        spoil(path, "L2", index)
    spoil(path, "L1", 1)
    wanted = {"inputs": (str(path),), "output": str(tmp_path / "target"), "output_format": "qcow2"}
    with pytest.raises(CorruptImageError):
        convert(ConvertRequest(**wanted))
    result = convert(ConvertRequest(**wanted, compress=compress, salvage=True))
    expected = bytearray(data)
    for offset, length in lost:
        expected[offset : offset + length] = bytes(length)
    assert contents(tmp_path / "target", "qcow2") == expected
    assert sorted((offset, length) for offset, length, _ in result.unreadable) == lost
    assert result.unreadable_size == sum(length for _, length in lost)


@pytest.mark.parametrize(("kind", "level"), [("zstd", "19"), ("zlib", "9")])
def test_threads_that_compress_are_as_many_as_memory_allows(tmp_path, kind, level):
    create_image(tmp_path / "a", "qcow2", 8 << 20, options={"compression_type": kind, "cluster_size": "2M"})
    tree = {"driver": "qcow2", "filename": str(tmp_path / "a"), "compression_level": level}
    with open_image(tree, read_only=False) as target:
        plan = CopyPlan(compressed=True, workers=64)
        copier = CompressedCopier(target, target, plan, 0, target.size, 0)
        workers = copier.find_workers()
        assert 2 <= workers < 64
        assert workers * (target.compression_memory + copier.buffer_size) <= 128 << 20
        assert target.compression_memory > (32 << 20 if kind == "zstd" else 4 << 20)
