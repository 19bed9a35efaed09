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
    from blockkit.block.fileobj import NodeFile as NodeFile
    from blockkit.block.graph import create_image as create_image
    from blockkit.block.graph import open_image as open_image
    from blockkit.block.node import Cap as Cap
    from blockkit.block.node import Extent as Extent
    from blockkit.block.node import Kind as Kind
    from blockkit.block.node import Limits as Limits
    from blockkit.block.node import Node as Node
    from blockkit.block.node import Preallocation as Preallocation
    from blockkit.block.policy import ImplicitPolicy as ImplicitPolicy
    from blockkit.emul.guest import Machine as Machine
    from blockkit.errors import BlockkitError as BlockkitError
    from blockkit.errors import FormatError as FormatError
    from blockkit.errors import ImageError as ImageError
    from blockkit.errors import NodeError as NodeError
    from blockkit.errors import PolicyError as PolicyError
    from blockkit.errors import UsageError as UsageError

__version__ = "0.1.0"

#: Public name -> the module that defines it.
_PUBLIC = {
    "BlockkitError": "blockkit.errors",
    "Cap": "blockkit.block.node",
    "Extent": "blockkit.block.node",
    "FormatError": "blockkit.errors",
    "ImageError": "blockkit.errors",
    "ImplicitPolicy": "blockkit.block.policy",
    "Kind": "blockkit.block.node",
    "Limits": "blockkit.block.node",
    "Machine": "blockkit.emul.guest",
    "Node": "blockkit.block.node",
    "NodeError": "blockkit.errors",
    "NodeFile": "blockkit.block.fileobj",
    "PolicyError": "blockkit.errors",
    "Preallocation": "blockkit.block.node",
    "UsageError": "blockkit.errors",
    "create_image": "blockkit.block.graph",
    "open_image": "blockkit.block.graph",
}

__all__ = [
    "BlockkitError",
    "Cap",
    "Extent",
    "FormatError",
    "ImageError",
    "ImplicitPolicy",
    "Kind",
    "Limits",
    "Machine",
    "Node",
    "NodeError",
    "NodeFile",
    "PolicyError",
    "Preallocation",
    "UsageError",
    "create_image",
    "open_image",
]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        from importlib import import_module

        value: object = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
