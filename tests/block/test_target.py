"""What is left of a new image, and of what was there before, when making it fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blockkit.block.graph import create_image, open_image
from blockkit.block.target import Target
from blockkit.errors import LockedError, NodeError, UsageError


class FailedError(Exception):
    pass


def fail(name: object, content: bytes | None, error: Exception, *, overwritten: bool = False) -> None:
    with Target(name) as target:
        target.overwritten = overwritten
        if content is not None:
            Path("new").write_bytes(content)
        raise error


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["new", "file:new", {"driver": "file", "filename": "new"}, Path("new")])
def test_a_new_file_is_removed(name: object) -> None:
    with pytest.raises(FailedError) as caught:
        fail(name, b"half", FailedError())
    assert not os.path.lexists("new")
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("overwritten", [False, True])
def test_what_existed_stays_and_is_told_of_when_it_is_lost(overwritten: bool) -> None:
    Path("old").write_bytes(b"old")
    Path("link").symlink_to("nowhere")
    for name in ("old", "link"):
        with pytest.raises(FailedError) as caught:
            fail(name, None, FailedError(), overwritten=overwritten)
        assert os.path.lexists(name)
        notes = [f"{name} was overwritten and is unfinished"] if overwritten else []
        assert getattr(caught.value, "__notes__", []) == notes


def test_a_file_that_somebody_else_made_meanwhile_stays() -> None:
    with pytest.raises(LockedError):
        fail("new", b"theirs", LockedError("new: locked"))
    assert Path("new").read_bytes() == b"theirs"


def test_no_file_of_a_graph_is_overwritten() -> None:
    create_image("base", "qcow2", 1 << 20)
    create_image("top", "qcow2", backing_file="base", backing_format="qcow2")
    os.link("base", "same")
    with open_image("top") as node:
        for name in ("top", "base", "same", "file:base"):
            with pytest.raises(UsageError, match="is the source"):
                Target(name).keep_apart(node, "source")
        Target("other").keep_apart(node, "source")


def test_an_image_is_not_its_own_backing_file() -> None:
    create_image("a", "qcow2", 1 << 20)
    before = Path("a").read_bytes()
    for name in ("a", "file:./a"):
        with pytest.raises(UsageError, match="is the backing file"):
            create_image(name, "qcow2", backing_file="a", backing_format="qcow2")
    assert Path("a").read_bytes() == before


def test_what_never_came_into_being_is_not_called_unfinished() -> None:
    with pytest.raises(NodeError) as caught:
        create_image("x" * 300, "raw", 512)
    assert getattr(caught.value, "__notes__", []) == []


def test_a_target_that_cannot_be_finished_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from blockkit.formats.raw import DRIVER

    def create(*_: object) -> None:
        raise FailedError

    monkeypatch.setattr(type(DRIVER), "create", create)
    Path("old").write_bytes(b"old")
    with pytest.raises(FailedError) as caught:
        create_image("old", "raw", 512)
    assert caught.value.__notes__ == ["old was overwritten and is unfinished"]
    with pytest.raises(FailedError):
        create_image("file:new", "raw", 512)
    assert not Path("new").exists()
