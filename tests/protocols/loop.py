"""Loop devices, for tests that need block devices."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LOSETUP = shutil.which("losetup", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def attach(backing: Path, *options: str) -> str:
    """Return a device that is a file; the test is skipped where there can be none."""
    if LOSETUP is None:
        pytest.skip("needs losetup")
    words = [LOSETUP, "--find", "--show", *options, str(backing)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    return done.stdout.strip()


def detach(device: str) -> None:
    assert LOSETUP is not None
    subprocess.run([LOSETUP, "--detach", device], check=True)
