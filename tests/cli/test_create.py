"""``blockkit img create``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit import create_image, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REQUESTS = (
    "n 1M",
    "-f raw n 1000",
    "-f raw -o preallocation=falloc n 1.5M",
    "-f raw -o preallocation=full n 1M",
    "-f qcow2 n 10G",
    "-f qcow2 n 0",
    "-f qcow2 n 1000",
    "-q -f qcow2 n 1M",
    "-f qcow2 -o size=2M n",
    "-f qcow2 -o cluster_size=4k,compat=0.10 n 2M",
    "-f qcow2 -o cluster_size=4k -o refcount_bits=1 n 2M",
    "-f qcow2 -o preallocation=metadata,refcount_bits=8,lazy_refcounts=on n 1M",
    "-f qcow2 -o compression_type=zstd,compat=v3 n 1M",
    "-f qcow2 -b base.raw -F raw n",
    "-f qcow2 -b base.raw -F raw n 20M",
    "-f qcow2 -o backing_file=base.raw,backing_fmt=raw n",
    "-f qcow2 -u -b nowhere -F qcow2 n 1M",
    "-f qcow2 -b ./x:base.raw -F raw n",
    "-f qcow2 -b file:base.raw -F raw n",
    "-f qcow2 -u -b x:base.raw -F raw n 1M",
)
REFUSED = (
    "",
    "n",
    "-f qcow2",
    "-f nope n 1M",
    "n lots",
    "n 1M more",
    "-f qcow2 -b base.raw n",
    "-f qcow2 -F raw n 1M",
    "-f qcow2 -b nowhere -F raw n",
    "-f qcow2 -b nowhere -F raw n 1M",
    "-f qcow2 -u -b nowhere -F raw n",
    "-f qcow2 -b n -F raw n 1M",
    "-f raw -b base.raw -F raw n 1M",
    "-f qcow2 -o foo=1 n 1M",
    "-f qcow2 -o cluster_size=3 n 1M",
    "-f qcow2 -o size=1M n 1M",
    "-f qcow2 missing/n 1M",
    "n 1.5",
    "-f qcow2 -b x:base.raw -F raw n",
    "-f qcow2 -b x:/base.raw -F raw n 1M",
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.raw").write_bytes(bytes(3 << 20))
    (tmp_path / "x:base.raw").write_bytes(bytes(3 << 20))
    return tmp_path


@pytest.mark.interop
@pytest.mark.parametrize("request_", REQUESTS)
def test_what_is_made_and_told_is_what_qemu_img_makes_and_tells(
    request_: str, directory: Path, img: Callable, theirs: Callable, qemu_img: Callable
) -> None:
    made = {}
    for run in (theirs, img):
        result = run("create", *request_.split())
        told = qemu_img("info", "--output", "json", "n").splitlines()
        made[run] = (result, [line for line in told if "actual-size" not in line])
        if "qcow2" in request_.split("-b", maxsplit=1)[0] and "-u" not in request_:
            qemu_img("check", "-q", "n")
        (directory / "n").unlink()
    assert made[img] == made[theirs]


@pytest.mark.interop
@pytest.mark.parametrize("request_", REFUSED)
def test_what_qemu_img_refuses_is_refused(request_: str, directory: Path, img: Callable, theirs: Callable) -> None:
    assert theirs("create", *request_.split()).code != 0
    (directory / "n").unlink(missing_ok=True)
    result = img("create", *request_.split())
    assert result.code == 1
    assert result.err.startswith("blockkit: ")
    assert result.err.count("\n") == 1
    assert not (directory / "n").exists()


def test_options_are_listed(img: Callable) -> None:
    for words in (("-o", "help"), ("-o", "?"), ("-o", "help", "n", "1M")):
        result = img("create", "-f", "qcow2", *words)
        assert result.code == 0
        assert "cluster_size=<size>" in result.out
        assert "size=<size>" in result.out


def test_the_image_cannot_be_its_own_backing_file(directory: Path, img: Callable) -> None:
    create_image(directory / "n", "qcow2", 1 << 20)
    before = (directory / "n").read_bytes()
    for name in ("n", "./n", str(directory / "n")):
        assert img("create", "-f", "qcow2", "-b", name, "-F", "qcow2", "n").code == 1
    assert (directory / "n").read_bytes() == before


def test_an_existing_image_is_replaced(directory: Path, img: Callable) -> None:
    (directory / "n").write_bytes(b"x" * (1 << 20))
    assert img("create", "-f", "qcow2", "n", "64k").code == 0
    with open_image(directory / "n", format="qcow2") as node:
        assert node.read(0, node.size) == bytes(65536)
