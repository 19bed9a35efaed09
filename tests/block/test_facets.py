"""What only some nodes can do is told by their members, not by what they inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.block.facets import GuardsHead, HasAllocatedSize, HasBitmaps
from blockkit.block.graph import create_image, open_image
from blockkit.img.info import actual_size
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from pathlib import Path


class Stored(MemoryNode):
    """A node of another package that knows what it takes."""

    allocated_size = 5


def test_nodes_can_do_what_they_have_the_members_for(tmp_path: Path) -> None:
    create_image(tmp_path / "a", "qcow2", 1 << 20)
    facets = (GuardsHead, HasAllocatedSize, HasBitmaps)
    for format_, able in (("qcow2", [False, False, True]), ("raw", [True, False, False])):
        with open_image(tmp_path / "a", format=format_) as node:
            assert [isinstance(node, facet) for facet in facets] == able
            assert [isinstance(node.children["file"], facet) for facet in facets] == [False, True, False]


def test_the_space_an_image_takes_is_that_of_its_files_as_far_as_they_know() -> None:
    with open_image({"driver": "raw", "file": Stored(b"x" * 512)}) as node:
        assert actual_size(node) == 5
    with open_image({"driver": "raw", "file": MemoryNode(b"x" * 512)}) as node:
        assert actual_size(node) is None
