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
    from types import ModuleType

    from blockkit.native.elf import Loaded

#: What object files of kernels are called.
_KIND: Final = "kernel"
#: What of the making decides what comes out.
MAKERS: Final = ("compiler", "dialect", "elf", "llvm")
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


def _load(name: str, compiled: bool) -> Loaded | None:
    if os.environ.get("BLOCKKIT_NATIVE") == "0" or os.uname().machine != "x86_64":
        return None
    try:
        return _find_or_make(import_module(name), compiled)
    except Exception:
        # There may be no llvmlite, one that does not know this processor, no sources, no memory for code, an object
        # that is none: whatever it is, Python does it.
        return None


def _find_or_make(module: ModuleType, compiled: bool) -> Loaded:
    from blockkit.native.elf import ObjectError

    name = f"{_KIND}-{module.__name__.rpartition('.')[2]}-{_key(module)}.o"
    kept = kept_object(name)
    if kept is not None:
        try:
            return _link(kept)
        except ObjectError:
            pass  # it is made again
    if not compiled:
        raise LookupError(name)
    made = _compile(module)
    loaded = _link(made)
    keep_object(_KIND, name, made)
    return loaded


def _link(made: bytes) -> Loaded:
    from blockkit.native.elf import load_objects

    loaded = load_objects([made])
    _alive.append(loaded)
    return loaded


def _key(module: ModuleType) -> str:
    """Return what tells one object from another: the sources it is made of and with, and constants from elsewhere."""
    sources = b""
    for name in (module.__name__, *(f"blockkit.native.{maker}" for maker in MAKERS)):
        spec = find_spec(name)
        assert spec is not None, "it has been imported"
        assert spec.origin is not None, "it is no namespace"
        with open(spec.origin, "rb") as file:
            sources += file.read() + b"\0"
    constants = sorted((name, value) for name, value in vars(module).items() if isinstance(value, int | tuple))
    return source_hash(sources + repr(constants).encode()).hex()


def _compile(module: ModuleType) -> bytes:
    from blockkit.native.compiler import compile_module
    from blockkit.native.llvm import Library

    # For any x86-64: a home directory may be shared by different ones.
    return compile_module(Library([module]).lower().replace("define internal", "define"), cpu="x86-64")
