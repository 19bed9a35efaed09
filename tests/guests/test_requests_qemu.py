"""Requests of every shape to a virtio disk end here as they do in QEMU, with the same sectors and memory."""

from __future__ import annotations

import itertools
import random
import struct
from typing import TYPE_CHECKING, Final

import pytest

from tests.guests import qemu
from tests.guests.accesses import Script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop(qemu.PROGRAM)

SECTORS: Final = 2016
_VIRTIO, _PORTS = 0x18, 0xC100
#: The queue: descriptors, the ring of what is available, and the one of what is used.
_TABLE, _AVAILABLE, _USED, _SIZE = 0x100000, 0x101000, 0x102000, 256
#: Memory of requests; each one has its own.
_MEMORY: Final = 0x200000
_NEXT, _WRITES, _INDIRECT = 1, 2, 4
#: Features: bits 9, 11, 13 and 14 allow kinds of requests, 27 to 29 shapes of them and when there are interrupts.
_KINDS: Final = 1 << 9 | 1 << 11 | 1 << 13 | 1 << 14
_LAYOUT, _INDIRECT_TABLES, _EVENTS = 1 << 27, 1 << 28, 1 << 29
_IN, _OUT, _FLUSH, _GET_ID, _DISCARD, _ZEROES, _UNKNOWN = 0, 1, 4, 8, 11, 13, 99
_UNTOUCHED: Final = 0xEE
#: As long as it can be: what is behind a shorter one is not fixed.
_SERIAL: Final = "0123456789ABCDEFGHIJ"


class Requests:
    """A driver that writes its script.

    Attributes:
        script: What it does.
    """

    def __init__(self, rng: random.Random) -> None:
        self.script = Script()
        self._rng = rng
        self._count = 0
        self._at = _MEMORY
        script = self.script
        script.config_write(_VIRTIO, 0x10, _PORTS)
        script.config_write(_VIRTIO, 0x04, 5, 2)
        for status in (0, 1, 3):
            script.port_write(_PORTS + 18, status)
        self._features = (
            _KINDS | rng.choice((0, _LAYOUT)) | rng.choice((0, _INDIRECT_TABLES)) | rng.choice((0, _EVENTS))
        )
        script.port_write(_PORTS + 4, self._features, 4)
        script.port_write(_PORTS + 14, 0, 2)
        script.port_write(_PORTS + 8, _TABLE >> 12, 4)
        script.port_write(_PORTS + 18, 7)

    def _take(self, size: int) -> int:
        """Return memory of that size, in which there are some numbers."""
        at = self._at
        self._at += size + self._rng.randrange(0, 64, 4)
        for offset in range(0, size, 124):
            self.script.write(at + offset, self._rng.getrandbits(32))
        return at

    def _pieces(self, at: int, size: int) -> list[tuple[int, int]]:
        """Cut memory into pieces, where drivers may."""
        cuts = {self._rng.randrange(size) for _ in range(self._rng.randrange(3))} if size else set()
        return [(at + first, second - first) for first, second in itertools.pairwise(sorted({0, *cuts, size}))]

    def make(self, kind: int, sector: int, sent: bytes | int, received: int, fixed: bool) -> None:
        """Make a request, and tell how it ends.

        Args:
            kind: Of request.
            sector: Its first sector.
            sent: What is sent, or how many bytes of anything.
            received: How many bytes there is room for.
            fixed: How many bytes are written is told.
        """
        script = self.script
        size = sent if isinstance(sent, int) else len(sent)
        at = self._take(16 + size)
        for number, word in enumerate((kind, 0, sector & 0xFFFFFFFF, sector >> 32)):
            script.write(at + 4 * number, word)
        if isinstance(sent, bytes):
            for number, (word,) in enumerate(struct.iter_unpack("<I", sent)):
                script.write(at + 16 + 4 * number, word)
        result = self._take(received + 4)
        script.write(result + received, _UNTOUCHED, 1)
        if self._features & _LAYOUT:
            readable, writable = self._pieces(at, 16 + size), self._pieces(result, received + 1)
        else:
            readable = [(at, 16), *self._pieces(at + 16, size)]
            writable = [*self._pieces(result, received), (result + received, 1)]
        chain = [(*each, 0) for each in readable] + [(*each, _WRITES) for each in writable]
        self._offer(chain)
        script.port_write(_PORTS + 16, 0, 2)
        # QEMU interrupts twice for a request when it is busy with others, so an interrupt does not tell of its end.
        script.wait_for_word(_USED + 2, self._count + 1)
        script.wait(_PORTS + 19, 1, 1)
        entry = _USED + 4 + 8 * (self._count % _SIZE)
        script.read(entry)
        script.read(entry + 4, mask=0xFFFFFFFF if fixed else 0)
        script.read(result + received, 1)
        for offset in {*range(0, received, 252), received - 4} if fixed and received else ():
            script.read(result + offset)
        self._count += 1

    def _offer(self, chain: list[tuple[int, int, int]]) -> None:
        """Put a chain of descriptors into the table, or into one of its own, in any order."""
        script, rng = self.script, self._rng
        indirect = bool(self._features & _INDIRECT_TABLES) and rng.random() < 0.5
        table = self._take(16 * len(chain)) if indirect else _TABLE
        places = list(range(len(chain))) if indirect else rng.sample(range(_SIZE), len(chain))
        for number, (address, size, flags) in enumerate(chain):
            at, more = table + 16 * places[number], number + 1 < len(chain)
            script.write(at, address)
            script.write(at + 4, 0)
            script.write(at + 8, size)
            script.write(at + 12, flags | (_NEXT if more else 0) | (places[number + 1] << 16 if more else 0))
        head = places[0]
        if indirect:
            head = rng.randrange(_SIZE)
            at = _TABLE + 16 * head
            for offset, value in ((0, table), (4, 0), (8, 16 * len(chain)), (12, _INDIRECT)):
                script.write(at + offset, value)
        script.write(_AVAILABLE + 4 + 2 * (self._count % _SIZE), head, 2)
        if self._features & _EVENTS:
            script.write(_AVAILABLE + 4 + 2 * _SIZE, self._count & 0xFFFF, 2)
        script.write(_AVAILABLE + 2, self._count + 1, 2)


def requests(rng: random.Random) -> Script:
    """Return requests that go well, and some that do not."""
    driver = Requests(rng)
    for _ in range(25):
        kind = rng.choice((_IN, _IN, _OUT, _OUT, _FLUSH, _GET_ID, _ZEROES, _DISCARD, _UNKNOWN))
        count = rng.randrange(1, 4)
        sector = rng.choice((rng.randrange(SECTORS), SECTORS - count, SECTORS, 1 << 55))
        fits = sector + count <= SECTORS
        if kind == _IN:
            driver.make(kind, sector, 0, 512 * count, fits)
        elif kind == _OUT:
            driver.make(kind, sector, 512 * count, 0, fits)
        elif kind == _ZEROES:
            # Of two errors, either may be told.
            ranges = struct.pack("<QII", sector, count, rng.choice((0, 0, 2)) if fits else 0)
            driver.make(kind, 0, ranges, 0, False)
        elif kind == _DISCARD:
            # What is read afterwards is not fixed, so all of them are wrong: behind the end, or with flags.
            ranges = struct.pack("<QII", *rng.choice(((SECTORS, count, 0), (5, count, 1), (5, count, 2))))
            driver.make(kind, 0, ranges, 0, False)
        elif kind == _GET_ID:
            driver.make(kind, 0, 0, 20, True)
        else:
            driver.make(kind, 0, 0, 0, kind == _FLUSH)
    return driver.script


@pytest.mark.parametrize("seed", range(6))
def test_requests_end_as_in_qemu(seed: int, tmp_path: Path) -> None:
    script = requests(random.Random(seed))
    rom = tmp_path / "rom"
    rom.write_bytes(script.rom())
    contents = random.Random(seed).randbytes(SECTORS * 512)
    here, there = qemu.both(rom, {"if": "virtio", "serial": _SERIAL}, contents, script.found)
    assert here[0] == there[0]
    assert here[1] == there[1] != contents
