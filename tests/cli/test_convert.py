"""``blockkit img convert``: from the command line to the request; what the engine does is tested beside it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from blockkit.img import convert as engine
from blockkit.img.convert import ConvertResult
from blockkit.img.request import ConvertRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[ConvertRequest]:
    made: list[ConvertRequest] = []

    def convert(request: ConvertRequest) -> ConvertResult:
        made.append(request)
        return ConvertResult()

    monkeypatch.setattr(engine, "convert", convert)
    return made


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("a b", {"inputs": ("a",), "output": "b", "output_format": "raw", "create": True, "sparse_size": 4096}),
        ("a b c -", {"inputs": ("a", "b", "c"), "output": "-"}),
        ("- b", {"inputs": ("-",)}),
        ("-f raw -O qcow2 a b", {"source_format": "raw", "output_format": "qcow2"}),
        ("-o cluster_size=4k -o compat=v3,lazy_refcounts a b",
         {"options": {"cluster_size": "4k", "compat": "v3", "lazy_refcounts": "on"}}),
        ("-o backing_file=x,backing_fmt=raw a b",
         {"options": {}, "backing_file": "x", "backing_format": "raw"}),
        ("-B x -F raw a b", {"backing_file": "x", "backing_format": "raw"}),
        ("-c a b", {"compress": True}),
        ("-S 64k a b", {"sparse_size": 65536}),
        ("-S 0 a b", {"sparse_size": 0}),
        ("-n a b", {"create": False}),
        ("-n --target-is-zero a b", {"create": False, "target_is_zero": True}),
        ("-n --target-image-opts a driver=raw,file.filename=b", {"target_image_opts": True}),
        ("--image-opts driver=raw,file.filename=a b", {"image_opts": True}),
        ("-q -m 3 -W -r 10M a b", {"workers": 3, "rate_limit": 10 << 20}),
        ("-C a b", {"copy_offload": True}),
        ("-t none -T directsync -U --salvage a b",
         {"target_cache": "none", "source_cache": "directsync", "force_share": True, "salvage": True}),
        ("a b -O qcow2", {"output_format": "qcow2", "output": "b"}),
    ],
)  # fmt: skip
def test_every_flag_reaches_the_request(
    words: str, fields: dict[str, object], requests: list[ConvertRequest], img: Callable
) -> None:
    result = img("convert", *words.split())
    assert (result.code, result.err) == (0, "")
    [request] = requests
    assert {name: getattr(request, name) for name in fields} == fields


@pytest.mark.parametrize(
    "words",
    ["", "a", "-m 0 a b", "-m 17 a b", "-S 100 a b", "-S 32M a b", "-r x a b", "-c -C a b", "-C -S 4k a b",
     "-C --salvage a b", "--target-is-zero a b", "--target-is-zero -n -B x -F raw a b", "--target-image-opts a b",
     "-l one a b", "--bitmaps a b", "- a b", "-n a -", "-t fast a b", "-o =x a b", "--object secret,id=a a b"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(words: str, requests: list[ConvertRequest], img: Callable) -> None:
    result = img("convert", *words.split())
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert requests == []


def test_options_for_an_existing_target_are_warned_about(requests: list[ConvertRequest], img: Callable) -> None:
    result = img("convert", "-n", "-o", "cluster_size=4k", "a", "b")
    assert result.code == 0
    assert "warning" in result.err
    assert requests[0].options == {}


def test_options_are_listed(img: Callable) -> None:
    assert "cluster_size=<size>" in img("convert", "-O", "qcow2", "-o", "help").out


def test_unreadable_ranges_are_told(monkeypatch: pytest.MonkeyPatch, img: Callable) -> None:
    from blockkit.errors import NodeIOError

    def convert(request: ConvertRequest) -> ConvertResult:
        result = ConvertResult()
        result.failed(4096, 512, NodeIOError("a.raw: input/output error"))
        return result

    monkeypatch.setattr(engine, "convert", convert)
    result = img("convert", "--salvage", "a", "b")
    assert result.code == 0
    assert result.err == (
        "blockkit: warning: 512 bytes at 0x1000 could not be read and are zeros: a.raw: input/output error\n"
    )
    assert img("convert", "-q", "--salvage", "a", "b").err == ""


def test_the_request_documents_every_field() -> None:
    text = inspect.getdoc(ConvertRequest) or ""
    assert [name for name in ConvertRequest.__dataclass_fields__ if f"{name}:" not in text] == []


def test_a_disk_goes_through_pipes(tmp_path: Path, process: Callable) -> None:
    data = b"x" * 300_032 + bytes(1 << 20)
    (tmp_path / "a.raw").write_bytes(data)
    with (tmp_path / "a.raw").open("rb") as source:
        first = process("img", "convert", "-f", "raw", "-O", "qcow2", tmp_path / "a.raw", "-", stdin=source)
        qcow2, err = first.communicate(timeout=60)
    assert (first.returncode, err) == (0, b"")
    (tmp_path / "b.qcow2").write_bytes(qcow2)
    second = process("img", "convert", "-O", "raw", tmp_path / "b.qcow2", "-")
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, b"")
    assert out == data
