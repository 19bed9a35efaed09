"""``blockkit img info``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from blockkit import create_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("tmp_path")


@pytest.mark.interop
@pytest.mark.parametrize(
    "words",
    [(), ("--output", "json"), ("--output=json", "-U"), ("--backing-chain",), ("--backing-chain", "--output", "json")],
)
def test_info_is_what_qemu_img_says(
    words: tuple[str, ...], sample: Path, img: Callable, theirs: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sample.parent)
    ours = img("info", *words, sample.name)
    assert ours == theirs("info", *words, sample.name)


@pytest.mark.interop
def test_names_below_are_told_as_they_are_opened(samples: dict[str, Path], img: Callable, theirs: Callable) -> None:
    path = samples["chain of three"]
    words = ("info", "--backing-chain", "--output", "json", path)
    assert img(*words) == theirs(*words)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["file:{}", 'json:{{"driver": "qcow2", "file.filename": "{}"}}'])
def test_a_name_that_means_a_file_is_told_as_that(
    name: str, samples: dict[str, Path], img: Callable, theirs: Callable
) -> None:
    words = ("info", "--output", "json", name.format(samples["qcow2, plain"]))
    assert img(*words) == theirs(*words)


@pytest.mark.interop
def test_an_option_string_names_an_image(samples: dict[str, Path], img: Callable, theirs: Callable) -> None:
    words = ("info", "--image-opts", f"driver=qcow2,file.filename={samples['qcow2, plain']}")
    assert img(*words) == theirs(*words)


def test_a_format_that_does_not_fit_is_refused(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(4096))
    result = img("info", "-f", "qcow2", path)
    assert result.code == 1
    assert result.err.startswith("blockkit: ")
    assert result.err.count("\n") == 1


def test_backing_files_are_opened_for_the_chain_only(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "over.qcow2"
    create_image(path, "qcow2", 1 << 20, backing_file="gone.raw", backing_format="raw", check_backing=False)
    assert "backing file: gone.raw" in img("info", path).out
    result = img("info", "--backing-chain", path)
    assert result.code == 1
    assert "gone.raw" in result.err


def test_a_backing_file_elsewhere_needs_to_be_allowed(tmp_path: Path, img: Callable) -> None:
    base = tmp_path / "base.raw"
    base.write_bytes(bytes(512))
    over = tmp_path / "inner" / "over.qcow2"
    over.parent.mkdir()
    create_image(over, "qcow2", 1 << 20, backing_file="../base.raw", backing_format="raw")
    refused = img("info", "--backing-chain", over)
    assert refused.code == 1
    assert "--backing-policy allow" in refused.err
    assert img("info", "--backing-chain", "--backing-policy", "allow", over).code == 0
    assert img("info", "--backing-chain", "--backing-policy", f"beneath:{tmp_path}", over).code == 0
    assert img("info", "--backing-chain", "--backing-policy", "deny", over).code == 1
    assert img("info", "--backing-policy", "deny", over).code == 0
    assert img("info", "--backing-chain", "--backing-policy", "perhaps", over).code == 1


def test_limits_are_told_for_every_node(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.qcow2"
    create_image(path, "qcow2", 1 << 20)
    nodes = img("info", "--limits", "--output", "json", path).json
    assert [(node["depth"], node["role"], node["driver"]) for node in nodes] == [(0, "", "qcow2"), (1, "file", "file")]
    assert nodes[0]["optimal-transfer"] == 65536
    table = img("info", "--limits", path).out.splitlines()
    assert table[0].split()[:2] == ["NODE", "REQUEST"]
    assert len(table) == 3


def test_objects_are_refused_by_name(tmp_path: Path, img: Callable) -> None:
    result = img("info", "--object", "secret,id=s", tmp_path / "a")
    assert result.code == 1
    assert "secret,id=s" in result.err


def test_a_name_with_line_breaks_stays_on_one_line(img: Callable) -> None:
    result = img("info", "no\nsuch\x1bfile")
    assert result.code == 1
    assert result.err == "blockkit: no\\nsuch\\x1bfile: no such file or directory\n"


def test_a_name_that_is_not_utf_8_is_told_all_the_same(tmp_path: Path, process: Callable) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.raw"
    with open(path, "wb") as file:
        file.truncate(512)
    child = process("img", "info", os.fsdecode(path))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert b"\xff.raw" in out
    child = process("img", "info", "--output", "json", os.fsdecode(path))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert json.loads(out)["filename"].endswith("/\ufffd.raw")
