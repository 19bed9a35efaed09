"""The fixture ``guest``, in a run of pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blockkit.testing import pytest_plugin
from tests.emul.rom import echo

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
def test_well(guest):
    vm = guest(firmware=ROM, memory="2M")
    vm.expect("hello")
    vm.save(SAVED)
    again = guest.load(SAVED, firmware=ROM, memory="2M")
    again.send("x")
    again.expect("x")

def test_badly(guest):
    guest(firmware=ROM, memory="2M").expect("goodbye", within=0.001)
"""


@pytest.fixture
def outcome(tmp_path: Path) -> str:
    names = f"ROM = {echo().write(tmp_path / 'rom')!r}\nSAVED = {str(tmp_path / 'saved')!r}\n"
    (tmp_path / "test_sample.py").write_text(names + TESTS)
    words = ["-p", pytest_plugin.__name__, "-p", "no:cacheprovider", "--guest-accelerator", "python", "test_sample.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    return done.stdout


def test_machines_are_made_and_what_they_said_is_shown_if_a_test_fails(outcome: str) -> None:
    assert "1 failed, 1 passed" in outcome
    assert "waiting for 'goodbye': its virtual time is over" in outcome
    section = outcome[outcome.index("guest <Machine running") :]
    assert "hello" in section.splitlines()[1]


def test_the_plugin_costs_nothing_before_it_is_used() -> None:
    program = (
        f"import sys, pytest, {pytest_plugin.__name__}; print(*(n for n in sys.modules if n.startswith('blockkit')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) == {"blockkit", "blockkit.testing", pytest_plugin.__name__}
