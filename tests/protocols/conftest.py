"""Fixtures for what lies on the host."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parent.parent.parent


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
