"""Compiling the handlers, once for each version of them, of LLVM and of the processor they run on."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blockkit.cpu.jit.elf import join_objects
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Processes that compile at the same time at most.
_MOST_PARTS: Final = 4
#: What to say where llvmlite is missing.
INSTALL: Final = "pip install 'blockkit[jit]'"


def cache_directory() -> Path:
    """Return where objects are kept: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "blockkit"


def compiler_version() -> str | None:
    """Return the version of llvmlite; None where it is not installed."""
    try:
        return metadata.version("llvmlite")
    except metadata.PackageNotFoundError:
        return None


def _key() -> str:
    """Return what tells one object from another, but the compiler."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(f"{platform.machine()} {sys.byteorder} {_processor()}".encode())
    return digest.hexdigest()[:24]


def _processor() -> str:
    """Return what tells this processor's instructions from those of others."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file.read().split("\n\n")[0].splitlines() if line.startswith(("model", "flags"))]
    except OSError:
        return platform.processor()
    return "\n".join(lines)


def native_object(say: Callable[[str], None]) -> bytes:
    """Return the object file, compiling it if it is not kept already.

    Args:
        say: Told what takes long.

    Raises:
        EmulationError: llvmlite is missing, or this is no x86-64 machine.
    """
    if platform.machine() != "x86_64":
        raise EmulationError(f"jit: this machine is {platform.machine()}, expected x86_64")
    key, version = _key(), compiler_version()
    directory = cache_directory()
    kept = _kept(directory, key, version)
    if kept is not None:
        return kept
    if version is None:
        raise EmulationError(f"jit: llvmlite is missing, which compiles the processor once; to install it: {INSTALL}")
    say("compiling the processor for this machine, once; it takes about ten seconds")
    start = time.monotonic()
    made = compile_object()
    say(f"compiled in {time.monotonic() - start:.0f} s")
    _keep(directory, f"processor-{key}-{version}.o", made)
    return made


def is_kept() -> bool:
    """Whether there is an object for this version and this processor already."""
    return _kept(cache_directory(), _key(), compiler_version()) is not None


def _kept(directory: Path, key: str, version: str | None) -> bytes | None:
    """Return an object that is kept, if nobody else can have written it."""
    try:
        if not _is_ours(os.stat(directory)):
            return None
        names = [f"processor-{key}-{version}.o"] if version else sorted(os.listdir(directory), reverse=True)
        for name in names:
            if name.startswith(f"processor-{key}-"):
                with open(directory / name, "rb") as file:
                    if _is_ours(os.fstat(file.fileno())):
                        return file.read()
    except OSError:
        pass
    return None


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _keep(directory: Path, name: str, data: bytes) -> None:
    """Keep an object, if that is possible."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for old in os.listdir(directory):
            if old.startswith("processor-") and time.time() - os.stat(directory / old).st_mtime > 30 * 86400:
                os.unlink(directory / old)
        with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
            file.write(data)
        os.replace(file.name, directory / name)
    except OSError:
        pass


def compile_object() -> bytes:
    """Compile everything, at the same time as far as there are processors, the stencils last; takes seconds."""
    from blockkit.cpu.jit.compiler import compile_module
    from blockkit.cpu.jit.generate import source, stencil_module
    from blockkit.cpu.jit.parts import cut

    made = source()
    first, *others = cut(made.common, made.handlers, max(1, min(os.cpu_count() or 1, _MOST_PARTS)))
    jobs = [*((text, "pic") for text in others), (stencil_module(made), "static")]
    command = [sys.executable, "-m", compile_module.__module__]
    helpers = [subprocess.Popen([*command, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _, model in jobs]
    with ThreadPoolExecutor(len(jobs)) as threads:
        outputs = [
            threads.submit(helper.communicate, text.encode()) for helper, (text, _) in zip(helpers, jobs, strict=True)
        ]
        objects = [compile_module(first)]
        for helper, job, output in zip(helpers, jobs, outputs, strict=True):
            found = output.result()[0]
            # Whatever kept the other process from doing it, it can be done here.
            objects.append(found if helper.returncode == 0 else compile_module(*job))
    return join_objects(objects)
