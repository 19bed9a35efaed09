from __future__ import annotations

import os
from pathlib import Path

import pytest

from blockkit.block.policy import ImplicitPolicy
from blockkit.errors import BlockkitError, NodeError, OptionError, PolicyError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """``images/`` with files in it, and ``secret`` beside it."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for name in ("images/a", "images/base", "images/sub/deep", "images/x:y", "images/json:x", "secret"):
        (tmp_path / name).write_text(name)
    return images


def find(policy: ImplicitPolicy, name: str, image: Path) -> str:
    """Return the path that ``policy`` lets be opened, checking what it says about it."""
    with policy.rooted(str(image)).find(name, image=str(image), role="backing file") as found:
        status = os.stat(found.path)
        assert found.identity == (status.st_dev, status.st_ino)
        return os.path.realpath(found.path)


def refused(policy: ImplicitPolicy, name: str, image: Path) -> str:
    with pytest.raises(PolicyError) as caught:
        find(policy, name, image)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{image}: backing file: ")
    return text


ANY_POLICY = [
    ImplicitPolicy.deny(),
    ImplicitPolicy.beneath(),
    ImplicitPolicy.allow(),
    ImplicitPolicy.allow(protocols=True),
]


def test_names_start_in_the_directory_of_the_image(images: Path) -> None:
    for policy in (ImplicitPolicy.beneath(), ImplicitPolicy.beneath(images), ImplicitPolicy.allow()):
        assert find(policy, "base", images / "a") == str(images / "base")
        assert find(policy, "./sub/deep", images / "a") == str(images / "sub/deep")
        assert find(policy, "sub/../base", images / "a") == str(images / "base")
        assert find(policy, str(images / "base"), images / "a") == str(images / "base")
        assert find(policy, "file:base", images / "a") == str(images / "base")
        assert find(policy, "file:x:y", images / "a") == str(images / "x:y")
        assert find(policy, "./json:x", images / "a") == str(images / "json:x")


def test_a_relative_image_name_is_no_obstacle(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images)
    for policy in (ImplicitPolicy.beneath(), ImplicitPolicy.beneath("."), ImplicitPolicy.allow()):
        assert find(policy, "base", Path("a")) == str(images / "base")
    for policy in (ImplicitPolicy.beneath("."), ImplicitPolicy.allow()):
        assert find(policy, "../base", Path("sub/deep")) == str(images / "base")


def test_deny_opens_nothing(images: Path) -> None:
    text = refused(ImplicitPolicy.deny(), "base", images / "a")
    assert "--backing-policy allow (policy=ImplicitPolicy.allow())" in text


@pytest.mark.parametrize(
    "name", ["../secret", "sub/../../secret", "../images/../secret", "/etc/passwd", "/", "..", "file:../secret"]
)
def test_names_that_lead_out_are_refused(images: Path, name: str) -> None:
    text = refused(ImplicitPolicy.beneath(), name, images / "a")
    assert "leads out of" in text
    assert "--backing-policy allow (policy=ImplicitPolicy.allow())" in text


def test_a_directory_whose_name_starts_alike_is_outside(images: Path) -> None:
    (images.parent / "images2").mkdir()
    (images.parent / "images2/base").touch()
    refused(ImplicitPolicy.beneath(), "../images2/base", images / "a")


def test_links_are_followed_before_the_place_is_judged(images: Path) -> None:
    (images / "out").symlink_to(images.parent / "secret")
    (images / "up").symlink_to("..")
    (images / "in").symlink_to("sub/deep")
    (images / "self").symlink_to(images)
    refused(ImplicitPolicy.beneath(), "out", images / "a")
    refused(ImplicitPolicy.beneath(), "up/secret", images / "a")
    assert find(ImplicitPolicy.beneath(), "in", images / "a") == str(images / "sub/deep")
    assert find(ImplicitPolicy.beneath(), "up/images/base", images / "a") == str(images / "base")
    assert find(ImplicitPolicy.beneath(), "self/base", images / "a") == str(images / "base")
    assert find(ImplicitPolicy.allow(), "out", images / "a") == str(images.parent / "secret")


def test_the_directory_itself_may_be_a_link(images: Path) -> None:
    (images.parent / "link").symlink_to(images)
    assert find(ImplicitPolicy.beneath(), "base", images.parent / "link/a") == str(images / "base")
    assert find(ImplicitPolicy.beneath(images.parent / "link"), "base", images / "a") == str(images / "base")


def test_a_link_put_there_after_the_look_is_not_followed(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.path.realpath

    def exchange(path: str) -> str:
        found = real(path)
        if found.endswith("deep"):
            (images / "sub/deep").unlink()
            (images / "sub").rmdir()
            (images / "sub").symlink_to(images.parent)
            (images.parent / "deep").write_text("stolen")
        return found

    monkeypatch.setattr(os.path, "realpath", exchange)
    policy = ImplicitPolicy.beneath().rooted(str(images / "a"))
    with pytest.raises(BlockkitError), policy.find("sub/deep", image=str(images / "a"), role="backing file"):
        pass


def test_a_link_to_the_file_put_there_after_the_look_is_refused(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.path.realpath

    def exchange(path: str) -> str:
        found = real(path)
        if found.endswith("base"):
            (images / "base").unlink()
            (images / "base").symlink_to(images.parent / "secret")
        return found

    monkeypatch.setattr(os.path, "realpath", exchange)
    policy = ImplicitPolicy.beneath().rooted(str(images / "a"))
    with (
        pytest.raises(PolicyError, match="expected a regular file"),
        policy.find("base", image=str(images / "a"), role="backing file"),
    ):
        pass


@pytest.mark.parametrize(
    "name",
    [
        "nbd://host/x",
        "json:{}",
        'json:{"driver":"file","filename":"base"}',
        "fat:rw:/etc",
        "x:y",
        "http://h/",
        "nbd:unix:/s",
    ],
)
def test_a_protocol_in_an_image_is_refused(images: Path, name: str) -> None:
    for policy in (*ANY_POLICY[1:], ImplicitPolicy.allow(protocols=True)):
        text = refused(policy, name, images / "a")
        assert "allow-protocols (policy=ImplicitPolicy.allow(protocols=True))" in text


@pytest.mark.parametrize("name", ["", "file:", "a\0b"])
def test_what_is_no_name_is_refused(images: Path, name: str) -> None:
    for policy in ANY_POLICY:
        refused(policy, name, images / "a")


def test_only_regular_files_are_opened(images: Path) -> None:
    os.mkfifo(images / "pipe")
    for policy in (ImplicitPolicy.beneath(), ImplicitPolicy.allow()):
        assert "is a pipe" in refused(policy, "pipe", images / "a")
        assert "is a directory" in refused(policy, "sub", images / "a")
        assert "is a directory" in refused(policy, ".", images / "a")
    assert "character device" in refused(ImplicitPolicy.allow(), "/dev/null", images / "a")
    assert "character device" in refused(ImplicitPolicy.beneath("/dev"), "/dev/null", images / "a")


@pytest.mark.root
def test_block_devices_need_to_be_allowed(images: Path) -> None:
    try:
        os.mknod(images / "disk", 0o600 | 0o060000, os.makedev(7, 0))
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    assert "is a block device" in refused(ImplicitPolicy.beneath(), "disk", images / "a")
    assert "is a block device" in refused(ImplicitPolicy.allow(devices=False), "disk", images / "a")
    assert find(ImplicitPolicy.allow(), "disk", images / "a") == str(images / "disk")


def test_a_missing_file_is_told_by_name(images: Path) -> None:
    for policy in (ImplicitPolicy.beneath(), ImplicitPolicy.allow()):
        with pytest.raises(NodeError, match=r"a: backing file '.*gone': no such file"):
            find(policy, "gone", images / "a")
    for name in ("x" * 5000, "sub/" * 2000 + "x"):
        with pytest.raises(NodeError):
            find(ImplicitPolicy.beneath(), name, images / "a")


def test_a_ring_of_links_is_an_error(images: Path) -> None:
    (images / "one").symlink_to("two")
    (images / "two").symlink_to("one")
    for policy in (ImplicitPolicy.beneath(), ImplicitPolicy.allow()):
        with pytest.raises(BlockkitError):
            find(policy, "one", images / "a")


def test_looking_leaves_no_descriptor_open(images: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for name in ("base", "../secret", "sub", "gone", "sub/gone", "base/x"):
        for policy in ANY_POLICY:
            try:
                find(policy, name, images / "a")
            except BlockkitError:
                pass
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("deny", ImplicitPolicy.deny()),
        ("beneath", ImplicitPolicy.beneath()),
        ("beneath:/a:b", ImplicitPolicy.beneath("/a:b")),
        ("allow", ImplicitPolicy.allow()),
        ("allow-protocols", ImplicitPolicy.allow(protocols=True)),
    ],
)
def test_a_policy_can_be_written_as_text(text: str, policy: ImplicitPolicy) -> None:
    assert ImplicitPolicy.parse(text) == policy


@pytest.mark.parametrize("text", ["", "Deny", "allow:", "beneath:", "deny:x", "allow-all"])
def test_other_words_are_no_policy(text: str) -> None:
    with pytest.raises(OptionError, match="is not one of deny, beneath"):
        ImplicitPolicy.parse(text)


def test_the_directory_is_that_of_the_first_image() -> None:
    assert ImplicitPolicy.beneath().rooted("/a/b.img").directory == "/a"
    assert ImplicitPolicy.beneath().rooted("/a/b.img").rooted("/c/d.img").directory == "/a"
    assert ImplicitPolicy.beneath("/x").rooted("/a/b.img").directory == "/x"
    assert ImplicitPolicy.allow().rooted("/a/b.img") == ImplicitPolicy.allow()
