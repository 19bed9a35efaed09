"""What firmware reads in the clock's memory: how much RAM there is, and where."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from blockkit.emul.clock import Clock
from blockkit.emul.cmos import Cmos
from blockkit.emul.lines import Line

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("memory", "above_1", "above_16", "above_4096"),
    [
        (2 * MIB, 1024, 0, 0),
        (48 * MIB, 47 * 1024, 512, 0),
        (3 * GIB, 0xFFFF, 0xBF00, 0),
        (5 * GIB, 0xFFFF, 0xBF00, 0x8000),
    ],
)
def test_memory_is_told_below_and_above_4_gib(memory: int, above_1: int, above_16: int, above_4096: int) -> None:
    cmos = Cmos(Clock(lambda: 0, lambda: None), Line(lambda _: None), datetime(2026, 1, 1, tzinfo=UTC), memory)

    def read(at: int, count: int) -> int:
        found = bytearray()
        for each in range(at, at + count):
            cmos.write(0, 1, each)
            found.append(cmos.read(1, 1))
        return int.from_bytes(found, "little")

    # KiB above 1 MiB, then units of 64 KiB above 16 MiB and above 4 GiB.
    assert (read(0x30, 2), read(0x34, 2), read(0x5B, 3)) == (above_1, above_16, above_4096)
