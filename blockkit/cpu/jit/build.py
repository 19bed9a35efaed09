"""Compiling the handlers, once for each version of them, of LLVM and of the processor they run on."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blockkit.errors import EmulationError
from blockkit.native.elf import join_objects
from blockkit.native.kept import keep_object, kept_object
from blockkit.native.kernels import MAKERS

if TYPE_CHECKING:
    from collections.abc import Callable

#: Processes that compile at the same time at most.
_MOST_PARTS: Final = 4
#: What its objects are called where they are kept.
_KIND: Final = "processor"
#: What to say where llvmlite is missing.
INSTALL: Final = "pip install 'blockkit[jit]'"


def compiler_version() -> str | None:
    """Return the version of llvmlite; None where it is not installed."""
    try:
        return metadata.version("llvmlite")
    except metadata.PackageNotFoundError:
        return None


def _key() -> str:
    """Return what tells one object from another, but the compiler."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent.parent
    for path in sorted([*package.glob("cpu/**/*.py"), *(package / "native" / f"{name}.py" for name in MAKERS)]):
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
    kept = _find(key, version)
    if kept is not None:
        return kept
    if version is None:
        raise EmulationError(f"jit: llvmlite is missing, which compiles the processor once; to install it: {INSTALL}")
    say("compiling the processor for this machine, once; it takes about ten seconds")
    start = time.monotonic()
    made = compile_object()
    say(f"compiled in {time.monotonic() - start:.0f} s")
    keep_object(_KIND, f"{_KIND}-{key}-{version}.o", made)
    return made


def is_kept() -> bool:
    """Whether there is an object for this version and this processor already."""
    return _find(_key(), compiler_version()) is not None


def _find(key: str, version: str | None) -> bytes | None:
    """Return an object that is kept: of this compiler, or of any where there is none."""
    return kept_object(f"{_KIND}-{key}-{version}.o" if version else f"{_KIND}-{key}-")


def compile_object() -> bytes:
    """Compile everything, at the same time as far as there are processors, the stencils last; takes seconds."""
    from blockkit.cpu.jit.generate import source, stencil_module
    from blockkit.cpu.jit.parts import cut
    from blockkit.native.compiler import compile_module

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
