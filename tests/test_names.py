from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockkit.errors import NameSyntaxError, UsageError
from blockkit.names import implied_path, parse_name, uri_scheme


def file(path: str) -> dict[str, Any]:
    return {"driver": "file", "filename": path}


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("disk.qcow2", file("disk.qcow2")),
        ("/a/b c", file("/a/b c")),
        ("./a:b", file("./a:b")),
        ("2024-01-01T10:00.img", file("2024-01-01T10:00.img")),
        ("backup:monday.img", file("backup:monday.img")),
        ("C:disk", file("C:disk")),
        ("a/nbd:x", file("a/nbd:x")),
        ("file:disk.img", file("disk.img")),
        ("file:///abs", file("///abs")),
        ("FILE:x", file("x")),
        ("host_device:/dev/sda", {"driver": "host_device", "filename": "/dev/sda"}),
        ("host_devices:/dev/sda", file("host_devices:/dev/sda")),
        (Path("nbd:x"), file("nbd:x")),
        (Path("json:{}"), file("json:{}")),
        ('json:{"driver":"raw","file.filename":"x"}', {"driver": "raw", "file": {"filename": "x"}}),
        ("nbd://host", {"driver": "nbd", "host": "host", "port": 10809, "export": ""}),
        ("nbd://host:1/exp%20ort", {"driver": "nbd", "host": "host", "port": 1, "export": "exp ort"}),
        ("nbd://[::1]:5/a/b", {"driver": "nbd", "host": "::1", "port": 5, "export": "a/b"}),
        ("nbd+tcp://h/", {"driver": "nbd", "host": "h", "port": 10809, "export": ""}),
        ("nbd+unix:///e?socket=/run/x", {"driver": "nbd", "path": "/run/x", "export": "e"}),
        ("zzz://x/y", {"driver": "zzz", "uri": "zzz://x/y"}),
    ],
)
def test_a_name_becomes_a_tree(name: str | Path, tree: dict[str, Any]) -> None:
    assert parse_name(name) == tree


@pytest.mark.parametrize(
    "name",
    [
        "",
        "file:",
        "a\0b",
        "nbd://",
        "nbd:host:1",
        "nbd://h:port",
        "nbd://[x",
        "nbd+unix:///e",
        "nbd+x://h",
        "json:",
        "json:[]",
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str) -> None:
    with pytest.raises(NameSyntaxError) as caught:
        parse_name(name)
    assert len(str(caught.value).splitlines()) == 1


@given(st.text(max_size=50) | st.text(max_size=30).map(lambda text: "nbd" + text))
def test_any_name_is_read_or_refused(name: str) -> None:
    try:
        assert parse_name(name)["driver"]
    except UsageError:
        pass
    except KeyError:
        assert name.startswith("json:")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("base.qcow2", "base.qcow2"),
        ("../base", "../base"),
        ("./a:b", "./a:b"),
        ("/a:b", "/a:b"),
        ("file:a:b", "a:b"),
        ("a:b", None),
        ("nbd://x", None),
        ("json:{}", None),
        ("fat:rw:/etc", None),
        ("host_device:/dev/sda", None),
        ("File:x", None),
    ],
)
def test_a_name_inside_an_image_is_a_path_only_without_a_prefix(name: str, path: str | None) -> None:
    assert implied_path(name) == path


def test_a_scheme_is_told_in_lower_case() -> None:
    assert uri_scheme("NBD://x") == "nbd"
    assert uri_scheme("disk.img") is None
