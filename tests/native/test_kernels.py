"""Native functions are had from llvmlite or from what was kept, and gone without where that cannot be."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from array import array
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

import pytest

from blockkit.native import kernels
from blockkit.native.kept import cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("llvmlite")

MODULE = "blockkit.formats.qcow2.columns"


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where objects are kept, and nothing loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BLOCKKIT_NATIVE", raising=False)
    monkeypatch.setattr(kernels, "_loaded", {})
    return tmp_path / "blockkit"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be like a new process."""
    monkeypatch.setattr(kernels, "_loaded", {})


def get(compiled: bool = True) -> Callable[..., int] | None:
    return kernels.kernel(MODULE, "l2_columns", 6, compiled=compiled)


def works(function: Callable[..., int] | None) -> bool:
    """Whether it finds the one run of a table."""
    assert function is not None
    entries, room = array("Q", [0, 1 << 63 | 0x30000]), array("Q", bytes(48))
    found = function(entries.buffer_info()[0], 2, 0, 0x10000, 1, room.buffer_info()[0])
    return found == 1 and [room[0], room[2], room[4]] == [0x10000, 0x10000, 0x30000]


def no_compiler(*_words: Any) -> None:
    raise AssertionError("compiled")


def test_it_is_compiled_once_and_loaded_afterwards(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(compiled=False) is None
    assert works(get())
    assert [path.name.partition("-")[0] for path in kept.iterdir()] == ["kernel"]
    monkeypatch.setattr(kernels, "_compile", no_compiler)
    assert works(get())
    forget(monkeypatch)
    assert works(get(compiled=False))


def test_many_threads_that_want_it_get_the_same(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    real = kernels._compile
    monkeypatch.setattr(kernels, "_compile", lambda module: (compiled.append(module), real(module))[1])
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: kernels.symbol(MODULE, "l2_columns", compiled=True), range(32)))
    assert len(found) == len(compiled) == 1
    assert None not in found


def test_it_needs_no_llvmlite_once_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert works(get())
    forget(monkeypatch)
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    assert works(get())


def test_without_llvmlite_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    assert get() is None
    monkeypatch.setattr(kernels, "_load", no_compiler)
    assert get() is None


@pytest.mark.parametrize(
    "error", [OSError("no library"), AttributeError("no such pass"), MemoryError(), StopIteration()]
)
def test_whatever_fails_python_does_it_and_nobody_tries_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = []

    def fail(_module: object) -> bytes:
        asked.append(1)
        raise error

    monkeypatch.setattr(kernels, "_compile", fail)
    assert get() is None
    assert get() is None
    assert asked == [1]


def test_constants_of_other_modules_are_part_of_the_key(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import blockkit.formats.qcow2.columns as module

    assert works(get())
    forget(monkeypatch)
    monkeypatch.setattr(module, "_OFFSET", 0)
    assert get(compiled=False) is None
    monkeypatch.undo()


def test_without_sources_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    archived = ModuleSpec(MODULE, None, origin="/somewhere/blockkit.zip/blockkit/formats/qcow2/columns.py")
    monkeypatch.setattr(kernels, "find_spec", lambda name: archived)
    assert get() is None


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert works(get())
    forget(monkeypatch)
    monkeypatch.setenv("BLOCKKIT_NATIVE", "0")
    assert get() is None


def test_other_machines_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*name[:4], "riscv64")))
    assert get() is None


@pytest.mark.parametrize("damage", ["empty", "short", "cut", "zeros", "sections", "one bit", "digest only"])
def test_what_is_kept_and_broken_is_made_again(kept: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    assert works(get())
    (path,) = kept.iterdir()
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "short": whole[:5],
            "cut": whole[:-20],
            "zeros": bytes(len(whole)),
            # What a power cut may leave: a header, and blocks that were never written.
            "sections": whole[:80] + bytes(len(whole) - 80),
            "one bit": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
            "digest only": whole[:8],
        }[damage]
    )
    forget(monkeypatch)
    assert get(compiled=False) is None
    assert works(get())
    assert path.read_bytes() == whole


@pytest.mark.parametrize("which", ["object", "directory"])
def test_what_others_may_have_written_is_not_loaded(kept: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    assert works(get())
    (path,) = kept.iterdir()
    os.chmod(path if which == "object" else kept, 0o777)
    forget(monkeypatch)
    assert get(compiled=False) is None


def test_nothing_is_kept_where_others_could_write(kept: Path) -> None:
    kept.mkdir(0o777)
    kept.chmod(0o777)
    (kept / "kernel-old-x.o").write_bytes(b"")
    os.utime(kept / "kernel-old-x.o", (0, 0))
    assert works(get())
    assert [path.name for path in kept.iterdir()] == ["kernel-old-x.o"]


def test_old_objects_go_and_nothing_else(kept: Path) -> None:
    kept.mkdir(0o700)
    for name in ("kernel-old-x.o", "kernel-5.10.0-gentoo", "processor-x.o", "kernel-new.o"):
        (kept / name).write_bytes(b"")
        if name != "kernel-new.o":
            os.utime(kept / name, (0, 0))
    assert works(get())
    left = {path.name for path in kept.iterdir()}
    assert left >= {"kernel-5.10.0-gentoo", "processor-x.o", "kernel-new.o"}
    assert "kernel-old-x.o" not in left
    assert len(left) == 4


def test_a_failed_write_leaves_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_words: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    assert works(get())
    assert list(kept.iterdir()) == []


def test_without_a_home_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda name: name)
    monkeypatch.chdir(tmp_path)
    assert cache_directory() is None
    assert works(get())
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_kept_it_is_made_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert works(get())
    forget(monkeypatch)
    assert get(compiled=False) is None


def test_the_cache_is_below_home_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_directory() == "/somewhere/.cache/blockkit"


def test_another_source_is_another_object(kept: Path) -> None:
    assert works(get())
    function = kernels.kernel("blockkit.img.map_lines", "map_lines", 6, compiled=True)
    assert function is not None
    assert len(list(kept.iterdir())) == 2


def test_loading_imports_no_compiler(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from blockkit.native.kernels import kernel\n"
        f"assert kernel({MODULE!r}, 'l2_columns', 6, compiled=True) is not None\n"
        "print('llvmlite' in sys.modules)\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said == ["True\n", "False\n"]
