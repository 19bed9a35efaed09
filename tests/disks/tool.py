"""Running blockkit's command line in this process, and QEMU's beside it."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from typing import Any, NamedTuple

from blockkit.cli.running import run


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it printed."""

    code: int
    output: str
    errors: str


def blockkit(*words: object) -> Ended:
    """Run ``blockkit img`` with ``words``."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = run(["img", *map(str, words)])
    return Ended(code, output.getvalue(), errors.getvalue())


def qemu_img(*words: object) -> Ended:
    """Run ``qemu-img`` with ``words``, however it ends."""
    done = subprocess.run(
        ["qemu-img", *map(str, words)], capture_output=True, stdin=subprocess.DEVNULL, timeout=120, check=False
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def as_json(ended: Ended) -> Any:
    """Return what a command printed as JSON."""
    assert ended.output, ended
    return json.loads(ended.output)
