"""The rules of conftest.py, run on small test files of their own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
PROJECT = CONFTEST.parent.parent

ABSENT = """
import pytest

@pytest.mark.interop("no-such-program")
def test_a_peer_agrees():
    pass
"""
WHOLE_FILE = """
import pytest

pytest.skip("not here", allow_module_level=True)
"""


def run_tests(directory: Path, source: str, *options: str, required: str) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text(CONFTEST.read_text())
    (directory / "test_sample.py").write_text(source)
    env = {**os.environ, "BLOCKKIT_REQUIRE_INTEROP": required, "PYTEST_ADDOPTS": "-p pytest_timeout"}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # a second each
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            PROJECT / "pyproject.toml",
            "--rootdir",
            directory,
            directory,
            *options,
        ],
        capture_output=True,
        text=True,
        env=env,
        cwd=directory,
        check=False,
    )


def test_a_missing_peer_skips_the_test_and_says_so(tmp_path: Path) -> None:
    done = run_tests(tmp_path, ABSENT, required="")
    assert done.returncode == 0, done.stdout
    assert "1 interop tests were skipped: needs no-such-program" in done.stdout


@pytest.mark.parametrize("source", [ABSENT, WHOLE_FILE])
def test_a_skipped_proof_fails_where_proofs_are_required(tmp_path: Path, source: str) -> None:
    done = run_tests(tmp_path, source, required="1")
    assert done.returncode != 0, done.stdout
    assert "skipped" in done.stdout


LONG = """
import pytest

@pytest.mark.long
def test_it_takes_an_hour():
    raise SystemError

def test_it_does_not():
    pass
"""


def test_a_long_test_runs_only_when_asked_for(tmp_path: Path) -> None:
    done = run_tests(tmp_path, LONG, required="")
    assert "1 passed, 1 deselected" in done.stdout
    done = run_tests(tmp_path, LONG, "--long", required="")
    assert "1 failed, 1 passed" in done.stdout


def test_a_proof_that_only_root_can_give_is_asked_of_root_only(tmp_path: Path) -> None:
    source = ABSENT.replace('interop("no-such-program")', "guest\n@pytest.mark.root")
    assert source != ABSENT
    prefix = "import os; os.geteuid = lambda: 1\n"
    done = run_tests(tmp_path, prefix + source, required="1")
    assert "1 skipped" in done.stdout
    assert done.returncode == 0


def test_randomness_is_the_same_on_every_run(rng: random.Random, request: pytest.FixtureRequest) -> None:
    assert rng.randbytes(8) == random.Random(request.node.nodeid).randbytes(8)
