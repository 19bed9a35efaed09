"""Cutting the native code into modules that are compiled at the same time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from blockkit.cpu.jit.handlers import CONVENTION

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFINED: Final = re.compile(r"^define (?:internal )?([^@]*)@([\w.]+)\(([^)]*)\)", re.MULTILINE)
_USED: Final = re.compile(r"@([\w.]+)")
_NAME: Final = re.compile(r" %[\w.]+")
_SHARED: Final = re.compile(r"^(?:declare|!\d+ =).*$", re.MULTILINE)


def cut(common: str, handlers: Sequence[str], count: int) -> list[str]:
    """Return modules that are everything together.

    Args:
        common: What there is once: system code, the table of handlers, and all declarations.
        handlers: The handlers, each the text of one function.
        count: How many modules.
    """
    shares = _shares(len(common), handlers, count)
    defined = {
        name: f"declare dso_local {kind}@{name}({_types(given)})" for kind, name, given in _DEFINED.findall(common)
    }
    shared = _SHARED.findall(common)
    modules = []
    for number, share in enumerate(shares):
        text = "\n".join(share)
        if number == 0:
            others = [
                f"declare dso_local {CONVENTION} void @{name}(ptr, ptr, i64, i64, i64, ptr)"
                for other in shares[1:]
                for _, name, _ in _DEFINED.findall("\n".join(other))
            ]
            # The others call what is here.
            modules.append("\n".join([common.replace("define internal ", "define "), *others, text]))
        else:
            wanted = sorted(set(_USED.findall(text)) & defined.keys())
            modules.append("\n".join([*shared, *(defined[name] for name in wanted), text]))
    return modules


def _types(given: str) -> str:
    """Return a function's parameters without their names."""
    return _NAME.sub("", given)


def _shares(common: int, handlers: Sequence[str], count: int) -> list[list[str]]:
    """Deal handlers out so that all modules are about as long."""
    lengths, shares = [common] + [0] * (count - 1), [[] for _ in range(count)]  # type: list[int], list[list[str]]
    for text in handlers:
        place = lengths.index(min(lengths))
        lengths[place] += len(text)
        shares[place].append(text)
    return shares
