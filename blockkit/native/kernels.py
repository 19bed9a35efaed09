"""Modules of the dialect as functions of this process, for work that Python is too slow for and could do as well.

Whoever wants one says what else there is to be done: ``None`` means that it goes without, because llvmlite is missing,
this is no x86-64, memory cannot be made executable, or ``BLOCKKIT_NATIVE=0`` is set. The object files are kept, so that
one process compiles (a quarter of a second) and all others load (two milliseconds).
"""

from __future__ import annotations

import os
import threading
from importlib import import_module
from importlib.util import find_spec, source_hash
from typing import TYPE_CHECKING, Any, Final

from blockkit.native.kept import keep_object, kept_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.native.elf import Loaded

#: What object files of kernels are called.
_KIND: Final = "kernel"
#: What of the making decides what comes out.
_MAKERS: Final = ("compiler", "dialect", "elf", "llvm")
#: By module; what could not be had is not asked for again.
_loaded: Final[dict[str, Loaded | None]] = {}
#: One thread at a time loads and compiles.
_lock: Final = threading.Lock()
#: All that was ever loaded: functions of it may be anywhere.
_alive: Final[list[Loaded]] = []


def kernel(module: str, name: str, arguments: int, *, compiled: bool) -> Callable[..., int] | None:
    """Return a function of a module of the dialect, native, or None where it cannot be had.

    Args:
        module: Full name of the module.
        name: Of the function. It is called with the interpreter's lock held.
        arguments: How many numbers it takes.
        compiled: Compile the module if need be; otherwise only what is kept from earlier is loaded.
    """
    address = symbol(module, name, compiled=compiled)
    if address is None:
        return None
    import ctypes

    number: Any = ctypes.c_uint64
    made: Callable[..., int] = ctypes.PYFUNCTYPE(number, ctypes.c_void_p, *[number] * arguments)(address)
    # Nothing here has a state.
    return lambda *numbers: made(None, *numbers)


def symbol(module: str, name: str, *, compiled: bool) -> int | None:
    """Return the address of such a function, which is there as long as the process."""
    with _lock:
        loaded = _loaded.get(module)
        if loaded is None and module not in _loaded:
            loaded = _load(module, compiled)
            if loaded is not None or compiled:
                _loaded[module] = loaded
    return None if loaded is None else loaded.symbols[name]


def _load(module: str, compiled: bool) -> Loaded | None:
    if os.environ.get("BLOCKKIT_NATIVE") == "0" or os.uname().machine != "x86_64":
        return None
    key = _key(module)
    if key is None:
        return None
    name = f"{_KIND}-{module.rpartition('.')[2]}-{key}.o"
    kept = kept_object(name)
    loaded = _link(kept) if kept is not None else None
    if loaded is None and compiled:
        made = _compile(module)
        loaded = _link(made) if made is not None else None
        if made is not None and loaded is not None:
            keep_object(_KIND, name, made)
    return loaded


def _link(made: bytes) -> Loaded | None:
    from blockkit.native.elf import ObjectError, load_objects

    try:
        loaded = load_objects([made])
    except ObjectError:
        return None
    _alive.append(loaded)
    return loaded


def _key(module: str) -> str | None:
    """Return what tells one object from another: the sources it is made of, and with; None where there are none."""
    sources = b""
    for each in (module, *(f"blockkit.native.{maker}" for maker in _MAKERS)):
        spec = find_spec(each)
        if spec is None or spec.origin is None:
            return None
        try:
            with open(spec.origin, "rb") as file:
                sources += file.read() + b"\0"
        except OSError:
            return None  # it is in an archive
    return source_hash(sources).hex()


def _compile(module: str) -> bytes | None:
    try:
        from blockkit.native.compiler import compile_module
        from blockkit.native.llvm import Library

        # For any x86-64: a home directory may be shared by different ones.
        text = Library([import_module(module)]).lower().replace("define internal", "define")
        return compile_module(text, cpu="x86-64")
    except (ImportError, RuntimeError):
        return None  # there is no llvmlite, or one that does not know this processor
