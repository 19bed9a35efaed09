"""blockkit: disk images as a block graph.

Any format over any protocol, opened as one :class:`Node`::

    import blockkit

    with blockkit.open_image("disk.qcow2") as disk:
        boot_sector = disk.read(0, 512)

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockkit.block.node import Cap as Cap
    from blockkit.block.node import Extent as Extent
    from blockkit.block.node import Kind as Kind
    from blockkit.block.node import Limits as Limits
    from blockkit.block.node import Node as Node
    from blockkit.errors import BlockkitError as BlockkitError

__version__ = "0.1.0"

#: Public name -> the module that defines it.
_PUBLIC = {
    "BlockkitError": "blockkit.errors",
    "Cap": "blockkit.block.node",
    "Extent": "blockkit.block.node",
    "Kind": "blockkit.block.node",
    "Limits": "blockkit.block.node",
    "Node": "blockkit.block.node",
}

__all__ = ["BlockkitError", "Cap", "Extent", "Kind", "Limits", "Node"]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        from importlib import import_module

        value: object = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
