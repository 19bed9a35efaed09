"""What requests suit each node of a stack."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from blockkit.block.node import Cap
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Limits, Node


class NodeLimits(Frozen):
    """One node of a stack.

    Attributes:
        depth: How many nodes stand above it.
        role: What it is to the node above; empty for the top.
        driver: The name of its driver.
        filename: The name it was opened by.
        limits: What requests suit it.
        caps: What it can do.
    """

    depth: int
    role: str
    driver: str
    filename: str
    limits: Limits
    caps: Cap

    @property
    def abilities(self) -> list[str]:
        """The names of ``caps``."""
        return [str(cap.name).lower().replace("_", "-") for cap in Cap if cap in self.caps]

    def as_json(self) -> dict[str, object]:
        """Return all of it as JSON-able values; sizes are bytes, 0 means no bound."""
        told: dict[str, object] = {
            "depth": self.depth,
            "role": self.role,
            "driver": self.driver,
            "filename": self.filename,
        }
        told |= {key.replace("_", "-"): value for key, value in asdict(self.limits).items()}
        told["capabilities"] = self.abilities
        return told


def stack_limits(node: Node, depth: int = 0, role: str = "") -> Iterator[NodeLimits]:
    """Yield every node from ``node`` down, each before those it stands on."""
    yield NodeLimits(depth, role, node.driver, node.filename, node.limits, node.caps)
    for name, child in node.children.items():
        yield from stack_limits(child, depth + 1, name)
