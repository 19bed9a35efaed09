"""How often the guest touches which register, in all and for each request: what exits of a virtual machine cost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from blockkit.emul.observe.accesses import Access, AccessObserver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.emul.disk import Disk, Request
    from blockkit.emul.session import Session


class Row(NamedTuple):
    """A register in the table.

    Attributes:
        device: Its device.
        address: Where it is; the last place, if it moved.
        register: Its name, or its offset.
        reads: How often it was read.
        writes: How often it was written.
    """

    device: str
    address: str
    register: str
    reads: int
    writes: int


class AccessCounts:
    """Counts accesses from now on.

    Args:
        session: The machine.

    Attributes:
        counts: By device, space and offset, direction, register name: how often.
        requests: Requests to each disk, by the drive's name.
        last: The accesses between the last two requests to each disk, by device and direction.
    """

    def __init__(self, session: Session) -> None:
        self.counts: Counter[tuple[str, str, int, str, bool]] = Counter()
        self.requests: Counter[str] = Counter()
        self.last: dict[str, Counter[tuple[str, bool]]] = {}
        self._since: dict[str, Counter[tuple[str, bool]]] = {}
        self._observer = AccessObserver(session.pc, self._count, lambda _: None)
        self._chained = [(drive.disk, drive.disk.observe) for drive in session.built.drives]
        for drive in session.built.drives:
            self._since[drive.name] = Counter()
            self._follow(drive.name, drive.disk)

    def _follow(self, name: str, disk: Disk) -> None:
        before = disk.observe

        def observe(request: Request) -> None:
            before(request)
            self.requests[name] += 1
            self.last[name], self._since[name] = self._since[name], Counter()

        disk.observe = observe

    def _count(self, access: Access) -> None:
        self.counts[access.device, access.space, access.address, access.register, access.is_write] += 1
        for each in self._since.values():
            each[access.device, access.is_write] += 1

    @property
    def total(self) -> int:
        """All accesses."""
        return self.counts.total()

    def rows(self) -> list[Row]:
        """Return a row for each register, what is touched most often first."""
        found: dict[tuple[str, str, int, str], list[int]] = {}
        for (device, space, address, register, is_write), count in self.counts.items():
            found.setdefault((device, space, address, register), [0, 0])[is_write] += count
        rows = [
            Row(device, f"{address:04x}" if space == "ports" else f"{address:08x}", register, *count)
            for (device, space, address, register), count in found.items()
        ]
        return sorted(rows, key=lambda row: (-row.reads - row.writes, row))

    def table(self, most: int = 40) -> Iterator[str]:
        """Yield the lines of a table: registers, then requests."""
        rows = self.rows()
        yield f"{'DEVICE':<14} {'ADDRESS':>8} {'REGISTER':<20} {'READS':>10} {'WRITES':>10}"
        for row in rows[:most]:
            yield f"{row.device[:14]:<14} {row.address:>8} {row.register[:20]:<20} {row.reads:>10} {row.writes:>10}"
        if len(rows) > most:
            yield f"... and {len(rows) - most} more registers"
        yield f"{self.total} accesses"
        for name, count in sorted(self.requests.items()):
            last = self.last.get(name, Counter())
            parts = ", ".join(
                f"{device} {'writes' if is_write else 'reads'} {times}"
                for (device, is_write), times in sorted(last.items(), key=lambda item: (-item[1], item[0]))[:6]
            )
            yield f"{name}: {count} requests; before the last one {last.total()} accesses" + (
                f": {parts}" if parts else ""
            )

    def close(self) -> None:
        """Count no more."""
        self._observer.close()
        for disk, observe in self._chained:
            disk.observe = observe
