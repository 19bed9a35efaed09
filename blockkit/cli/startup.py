"""Starting fast: modules that others import but hardly ever use are executed when they are first used.

click and dataclasses import these for one rare function each; executing ``inspect`` alone takes a sixth of the whole
run of ``blockkit img info``. ``importlib.util.LazyLoader`` does not help: in Python 3.11 a later ``import`` of
the same module looks at its ``__spec__``, which makes it load at once. Here the placeholder has all the attributes that
the import system asks for, and only a name it does not have executes the module, in place.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, Final

#: Modules of the standard library that are plain Python, and whose execution has no effect on anything else.
SELDOM_USED: Final = ("inspect", "textwrap", "uuid", "gettext", "datetime")
#: What click takes out of them while it is imported, only to call it or to name it as a type.
_NAMED_BY_CLICK: Final = frozenset(
    (("uuid", "UUID"), ("gettext", "gettext"), ("gettext", "ngettext"), ("datetime", "datetime"))
)

#: What is looked up in modules by whoever imports them, and is not worth executing one.
_OF_IMPORTS: Final = frozenset(("__path__", "__file__", "__cached__", "__wrapped__"))

#: One for each module that waits: with one for all, whoever executes ``pdb`` could wait for ``bdb`` while whoever
#: imports ``bdb`` waits for ``inspect``.
_locks: Final[dict[str, threading.RLock]] = {}


class StandIn:
    """Stands for ``name`` of a module until it is called."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return getattr(import_module(self._module), self._name)(*args, **kwargs)


class Delayed(ModuleType):
    """A module that is executed when a name is first looked up in it."""

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        if name in _OF_IMPORTS or spec is None or spec.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if (self.__name__, name) in _NAMED_BY_CLICK and _asked_by_click():
            return StandIn(self.__name__, name)
        _execute(self)
        value: object = getattr(self, name) if name in self.__dict__ else ModuleType.__getattribute__(self, name)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # What somebody puts there must not be lost when the module is executed.
        if not name.startswith("__"):
            _execute(self)
        ModuleType.__setattr__(self, name, value)  # it may be a plain module by now

    def __dir__(self) -> list[str]:
        _execute(self)
        return sorted(self.__dict__)


def _execute(module: ModuleType) -> None:
    """Execute a module that waits for it. No method: the module may have become a plain one in the meantime."""
    spec = module.__spec__
    if spec is None or spec.loader is None:
        return
    with _locks[module.__name__]:
        if module.__dict__.get("_delayed", True):
            # Set first: names the module looks up in itself while it runs are really missing.
            module.__dict__["_delayed"] = False
            spec.loader.exec_module(module)
            module.__class__ = ModuleType


def _asked_by_click() -> bool:
    """Whether a module of click is being imported, and it is what looks the name up."""
    frame = sys._getframe(2)
    return frame.f_code.co_name == "<module>" and str(frame.f_globals.get("__name__")).startswith("click.")


def delay_imports(names: tuple[str, ...] = SELDOM_USED) -> None:
    """Make later imports of ``names`` free until something is used; what is loaded already stays as it is."""
    for name in names:
        if name in sys.modules:
            continue
        spec = PathFinder.find_spec(name)
        if spec is None or spec.loader is None or spec.submodule_search_locations is not None:
            continue
        module, _locks[name] = Delayed(name), threading.RLock()
        module.__spec__, module.__loader__ = spec, spec.loader
        if spec.origin is not None:
            module.__file__ = spec.origin
        sys.modules[name] = module
