"""Choosing how to run a processor: the fastest way there is here."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from blockkit.errors import BlockkitError, EmulationError, OptionError

if TYPE_CHECKING:
    from blockkit.cpu.accelerator import Accelerator

#: By name, the fastest first: the module and the class.
ACCELERATORS: Final = {
    "kvm": ("blockkit.cpu.kvm", "KvmAccelerator"),
    "jit": ("blockkit.cpu.jit", "JitAccelerator"),
    "python": ("blockkit.cpu.portable", "PythonAccelerator"),
}
AUTO: Final = "auto"

#: What an accelerator needs of other packages, and what to do about it.
_PACKAGES: Final = {
    "jit": ("llvmlite", "llvmlite is not installed; for a hundredfold speed: pip install 'blockkit[jit]'"),
}


def choose(name: str = AUTO) -> tuple[Accelerator, str]:
    """Return the accelerator called ``name``, and in one line why it is that one.

    ``auto`` is the fastest that can be used here. KVM that only emulates is passed over, but can be asked for by name.

    Raises:
        OptionError: there is none of that name.
        EmulationError: it cannot be used here.
    """
    if name != AUTO:
        if name not in ACCELERATORS:
            raise OptionError(f"there is no accelerator {name!r}{_suggestion(name)}")
        return _make(name), f"{name}: as asked"
    refusals: list[str] = []
    for candidate in ACCELERATORS:
        try:
            why = _examine(candidate)
            accelerator = _make(candidate)
        except BlockkitError as error:
            refusals.append(str(error))
        else:
            return accelerator, "; ".join((f"{candidate}: {why}", *refusals))
    raise EmulationError(f"no accelerator can be used: {'; '.join(refusals)}")


def _examine(name: str) -> str:
    """Return what speaks for an accelerator; raises EmulationError for what speaks against it."""
    if name != "kvm":
        return "the fastest that can be used here"
    try:
        from blockkit.cpu.kvm.probe import probe
    except ImportError as error:
        raise EmulationError(f"kvm: not on this host: {error}") from error
    found = probe()
    if not found.usable:
        raise EmulationError(found.why)
    return found.why.removeprefix("kvm: ")


def _make(name: str) -> Accelerator:
    """Return an accelerator, importing its module."""
    package, missing = _PACKAGES.get(name, ("", ""))
    if package and find_spec(package) is None and not _is_compiled():
        raise EmulationError(f"{name}: {missing}")
    module, attribute = ACCELERATORS[name]
    try:
        accelerator: Accelerator = getattr(import_module(module), attribute)()
    except (ImportError, OSError) as error:
        raise EmulationError(f"{name}: cannot be loaded: {error}") from error
    return accelerator


def _is_compiled() -> bool:
    """Whether the native code is kept from when llvmlite was there: it does not need it any more."""
    from blockkit.cpu.jit.build import is_kept

    return is_kept()


def _suggestion(word: str) -> str:
    """Return the end of an error about ``word``: the near miss, or all names."""
    from difflib import get_close_matches

    known = [AUTO, *ACCELERATORS]
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}" if near else f"; known are {', '.join(known)}"
