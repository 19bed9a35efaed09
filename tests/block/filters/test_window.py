from __future__ import annotations

import pytest

import blockkit
from blockkit.block.filters.window import WindowNode, WindowOptions
from blockkit.block.node import Cap, Limits
from blockkit.errors import FormatError, OptionError, OutOfRangeError, UnsupportedOperationError
from blockkit.testing.memory import MemoryNode


def test_only_the_window_is_seen_and_changed() -> None:
    memory = MemoryNode(b"0123456789")
    with blockkit.open_image({"driver": "window", "offset": 3, "size": "4", "file": memory}, read_only=False) as node:
        assert node.size == 4
        assert node.read(0, 4) == b"3456"
        node.write(0, b"abcd")
        with pytest.raises(OutOfRangeError):
            node.read(1, 4)
        with pytest.raises(OutOfRangeError):
            node.write(3, b"xy")
    assert memory.data == b"012abcd789"


def test_limits_are_those_below_unless_told_otherwise() -> None:
    memory = MemoryNode(bytes(100))
    assert WindowNode(memory, WindowOptions()).limits == memory.limits
    options = WindowOptions(request_alignment=512, memory_alignment=4096, max_transfer=65536, optimal_transfer=8192)
    assert WindowNode(memory, options).limits == Limits(
        request_alignment=512, memory_alignment=4096, max_transfer=65536, optimal_transfer=8192
    )


def test_an_alignment_is_a_power_of_two() -> None:
    with pytest.raises(OptionError, match="window: request_alignment 3 is not a power of two"):
        blockkit.open_image({"driver": "window", "request-alignment": "3", "file": MemoryNode(bytes(10))})


def test_a_window_must_lie_inside() -> None:
    for options in (WindowOptions(offset=11), WindowOptions(size=11), WindowOptions(offset=5, size=6)):
        with pytest.raises(FormatError, match="reach past its 10 bytes"):
            WindowNode(MemoryNode(bytes(10)), options)
    with pytest.raises(OutOfRangeError):
        WindowNode(MemoryNode(bytes(10)), WindowOptions(offset=-1))
    assert WindowNode(MemoryNode(bytes(10)), WindowOptions(offset=10)).size == 0


def test_a_window_without_size_moves_its_end_with_the_file() -> None:
    node = WindowNode(MemoryNode(bytes(10)), WindowOptions(offset=4))
    node.resize(20)
    assert (node.size, node.file.size) == (20, 24)
    fixed = WindowNode(MemoryNode(bytes(10)), WindowOptions(size=4))
    assert Cap.RESIZE not in fixed.caps
    with pytest.raises(UnsupportedOperationError):
        fixed.resize(5)
