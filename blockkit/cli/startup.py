"""Starting fast: modules that others import but hardly ever use are executed when they are first used.

click, construct and dataclasses import these for one rare function each; executing them takes about a fifth of the
whole run of ``blockkit img info``. ``importlib.util.LazyLoader`` does not help: in Python 3.11 a later ``import`` of
the same module looks at its ``__spec__``, which makes it load at once. Here the placeholder has all the attributes that
the import system asks for, and only a name it does not have executes the module, in place.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Final

#: Modules of the standard library that are plain Python, and whose execution has no effect on anything else.
SELDOM_USED: Final = ("inspect", "pdb", "pickle", "hashlib", "platform", "traceback", "textwrap")

_lock = threading.RLock()


class Delayed(ModuleType):
    """A module that is executed when a name is first looked up in it."""

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _lock:
            if self.__dict__.get("_delayed", True):
                # Set first: names the module looks up in itself while it runs are really missing.
                self.__dict__["_delayed"] = False
                spec.loader.exec_module(self)
                self.__class__ = ModuleType  # type: ignore[assignment]
        value: object = getattr(self, name) if name in self.__dict__ else ModuleType.__getattribute__(self, name)
        return value


def delay_imports(names: tuple[str, ...] = SELDOM_USED) -> None:
    """Make later imports of ``names`` free until something is used; what is loaded already stays as it is."""
    for name in names:
        if name in sys.modules:
            continue
        spec = PathFinder.find_spec(name)
        if spec is None or spec.loader is None or spec.submodule_search_locations is not None:
            continue
        module = Delayed(name)
        module.__spec__, module.__loader__ = spec, spec.loader
        if spec.origin is not None:
            module.__file__ = spec.origin
        sys.modules[name] = module
