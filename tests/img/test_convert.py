"""Conversions, judged by qemu-img: the same contents, and nothing for a check to find."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blockkit.block.graph import create_image, open_image
from blockkit.errors import BlockkitError, UsageError
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


def piped(request: dict[str, object], *, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", PROGRAM, repr(request)], input=stdin, capture_output=True, timeout=120)


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


def test_compressed_clusters_cannot_go_to_a_pipe(source):
    path, _ = source
    done = piped({"inputs": (str(path),), "output": "-", "output_format": "qcow2", "compress": True})
    assert done.returncode != 0
    assert b"-c cannot go to standard output" in done.stderr


def test_an_existing_target_keeps_what_lies_behind_its_new_contents_as_zeros(source, tmp_path):
    path, data = source
    target = tmp_path / "target.qcow2"
    create_image(target, "qcow2", SIZE + (1 << 20))
    with open_image(target, read_only=False) as node:
        node.write(0, b"old" * 1000)
        node.write(SIZE + 4096, b"old")
    convert(ConvertRequest(inputs=(str(path),), output=str(target), output_format="qcow2", create=False))
    assert contents(target, "qcow2") == data + bytes(1 << 20)


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


def test_copy_offload_gives_the_same_bytes(source, tmp_path):
    path, data = source
    target = tmp_path / "target.raw"
    convert(ConvertRequest(inputs=(str(path),), output=str(target), copy_offload=True))
    assert target.read_bytes() == data


def test_a_source_that_somebody_writes_to_needs_force_share(source, tmp_path):
    path, data = source
    target = tmp_path / "target.raw"
    with open_image(path, format="raw", read_only=False):
        with pytest.raises(BlockkitError):
            convert(ConvertRequest(inputs=(str(path),), source_format="raw", output=str(target)))
        convert(ConvertRequest(inputs=(str(path),), source_format="raw", output=str(target), force_share=True))
    assert target.read_bytes() == data
    assert not os.path.exists(str(target) + ".tmp")
