"""Fixtures and rules every test shares.

A test that needs a program of somebody else says so: ``@pytest.mark.interop`` for qemu-img and qemu-io, or
``@pytest.mark.interop("mdir", "fsck.fat")`` for others. It is skipped where they are missing, and the closing lines
say what to install. With ``BLOCKKIT_REQUIRE_INTEROP=1`` such a skip is a failure: that is how CI knows that it
proved what it claims to prove. Only what needs root is not asked of others.

A test that takes too long for every day says so with ``@pytest.mark.long``, and runs with ``--long``.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT = Path(__file__).resolve().parent.parent
#: Program -> the Debian package that has it.
PACKAGES = {
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "gdb": "gdb",
    "grub-mkimage": "grub-common",
    "iasl": "acpica-tools",
    "genisoimage": "genisoimage",
    "mdir": "mtools",
    "mcopy": "mtools",
    "mtype": "mtools",
    "fsck.fat": "dosfstools",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "debugfs": "e2fsprogs",
}
#: The markers whose tests may not be skipped under BLOCKKIT_REQUIRE_INTEROP.
PROOFS = ("interop", "guest")
#: Why a test is skipped that only root can run.
NEEDS_ROOT = "needs root"
#: Administrators' programs are not on everybody's PATH.
SEARCH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


@functools.cache
def find_program(name: str) -> str | None:
    """Return the path of ``name``, looking where administrators' programs are too."""
    return shutil.which(name, path=SEARCH)


def required_programs(item: pytest.Item) -> set[str]:
    programs: set[str] = set()
    for marker in item.iter_markers("interop"):
        programs.update(marker.args or ("qemu-img", "qemu-io"))
    return programs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run tests too that take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    for item in items:
        if {"qemu_img", "qemu_io"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.interop("qemu-img", "qemu-io"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = sorted(name for name in required_programs(item) if find_program(name) is None)
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)


def must_prove() -> bool:
    return os.environ.get("BLOCKKIT_REQUIRE_INTEROP", "") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.skipped and must_prove() and not hasattr(report, "wasxfail") and reason_of(report) != NEEDS_ROOT:
        if any(item.get_closest_marker(name) for name in PROOFS):
            report.outcome = "failed"
            report.longrepr = f"skipped where it must run: {reason_of(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if report.skipped and must_prove():
        report.outcome = "failed"
        report.longrepr = "a whole file was skipped; mark its tests instead"
    return report


def reason_of(report: pytest.TestReport) -> str:
    longrepr = report.longrepr
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many proofs were skipped and what to install to have them."""
    skipped = [r for r in terminalreporter.getreports("skipped") if any(name in r.keywords for name in PROOFS)]
    if not skipped:
        return
    reasons = Counter(reason_of(report) for report in skipped)
    programs = {name for reason in reasons for name in PACKAGES if name in reason.replace(",", " ").split()}
    advice = " ".join(sorted({PACKAGES[name] for name in programs}))
    line = f"{len(skipped)} interop tests were skipped: {'; '.join(sorted(reasons))}"
    terminalreporter.write_line(f"{line} (apt-get install {advice})" if advice else line, yellow=True)


def run_program(*words: object) -> str:
    """Run a program to its end and return what it printed; its own words explain a failure."""
    argv = [str(find_program(str(words[0])) or words[0]), *map(str, words[1:])]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture
def qemu_img() -> Callable[..., str]:
    """``qemu_img("check", path)`` runs it and returns its output; a non-zero exit fails the test."""
    return functools.partial(run_program, "qemu-img")


@pytest.fixture
def qemu_io() -> Callable[..., str]:
    """``qemu_io(path, "write -P 1 0 4k", "flush", fmt="qcow2")`` runs commands in turn on one image."""

    def run(path: Path | str, *commands: str, fmt: str = "qcow2", options: tuple[str, ...] = ()) -> str:
        words = [word for command in commands for word in ("-c", command)]
        output = run_program("qemu-io", "-f", fmt, *options, *words, path)
        # qemu-io exits with 0 after some failures and says so in words alone.
        assert "failed" not in output, output
        return output

    return run


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Randomness that is the same on every run of this test: ``rng.randbytes(4096)``."""
    return random.Random(request.node.nodeid)


def has_direct_io(directory: Path) -> bool:
    probe = directory / "probe"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_RDWR | os.O_DIRECT))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


@pytest.fixture(scope="session")
def direct_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory whose file system has direct I/O: the temporary one, or else one in the checkout."""
    directory = tmp_path_factory.mktemp("direct")
    if has_direct_io(directory):
        yield directory
        return
    with tempfile.TemporaryDirectory(dir=CHECKOUT, prefix=".direct-") as name:
        if not has_direct_io(Path(name)):
            pytest.skip("no file system here has direct I/O")
        yield Path(name)


@pytest.fixture
def direct_path(direct_directory: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file name where direct I/O works."""
    path = direct_directory / f"{abs(hash(request.node.nodeid)):x}.img"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def answers_at_once(direct_directory: Path) -> bool:
    """Whether files there can be read without waiting (RWF_NOWAIT), as native reads need."""
    probe = direct_directory / "probe"
    probe.write_bytes(b"x")
    fd = os.open(probe, os.O_RDONLY)
    try:
        return os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except OSError:
        return False
    finally:
        os.close(fd)
        probe.unlink()
