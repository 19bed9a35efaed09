from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import blockkit

if TYPE_CHECKING:
    from pathlib import Path

#: What a program that only opens an image should not pay for.
SLOW = {
    "asyncio",
    "click",
    "construct",
    "ctypes",
    "difflib",
    "importlib.metadata",
    "isal",
    "json",
    "urllib.parse",
    "zstandard",
}


def test_every_public_name_is_there_and_typed() -> None:
    assert sorted(blockkit.__all__) == blockkit.__all__
    for name in blockkit.__all__:
        assert getattr(blockkit, name).__name__ == name
    assert set(blockkit.__all__) <= set(dir(blockkit))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        blockkit.nonsense  # noqa: B018


def modules_loaded_by(program: str) -> set[str]:
    script = f"import sys\nbefore = set(sys.modules)\n{program}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing() -> None:
    assert {name for name in modules_loaded_by("import blockkit") if name.startswith("blockkit.")} == set()


def test_opening_a_raw_image_loads_nothing_slow(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(512))
    loaded = modules_loaded_by(
        f"import blockkit\nblockkit.open_image({str(tmp_path / 'disk')!r}, format='raw').close()"
    )
    assert "blockkit.formats.raw" in loaded
    assert not loaded & SLOW
    assert not {name for name in loaded if "qcow2" in name}
