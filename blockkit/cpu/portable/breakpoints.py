"""The breakpoints that DR0 to DR3 and DR7 set (SDM volume 3, 17.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableSequence

    Load = Callable[[int, int], int]
    Store = Callable[[int, int, int], None]

_EXECUTE, _WRITE, _PORT, _ACCESS = range(4)
#: Bytes that a LEN field stands for.
_LENGTHS: Final = (1, 2, 8, 4)


class Breakpoints:
    """What instructions are compared with, one at a time.

    Args:
        slots: The state.

    Attributes:
        hit: The conditions that the instruction met, as in DR6.
    """

    def __init__(self, slots: MutableSequence[int]) -> None:
        self._slots = slots
        self.hit = 0

    def _enabled(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield number, condition, first address and length of those that are enabled."""
        control = self._slots[state.DEBUG + 7]
        for number in range(4):
            if control >> 2 * number & 3:
                length = _LENGTHS[control >> 18 + 4 * number & 3]
                address = self._slots[state.DEBUG + number] & ~(length - 1)
                yield number, control >> 16 + 4 * number & 3, address, length

    def begin(self, address: int) -> bool:
        """Begin an instruction at a linear address; return whether one is there, and tell DR6."""
        self.hit = 0
        if not self._slots[state.SYSTEM_FLAGS] & state.RF:
            for number, condition, place, _ in self._enabled():
                if condition == _EXECUTE and place == address:
                    self.hit |= 1 << number
        return bool(self.hit)

    def _note(self, address: int, size: int, conditions: tuple[int, ...]) -> None:
        for number, condition, place, length in self._enabled():
            if condition in conditions and address < place + length and place < address + size:
                self.hit |= 1 << number

    def port(self, port: int, size: int) -> None:
        """Learn of an access of an I/O port."""
        if self._slots[state.CR4] & state.CR4_DE:
            self._note(port, size, (_PORT,))

    def watching(self, load: Load, store: Store) -> tuple[Load, Store]:
        """Return the same two, which learn what data is accessed."""

        def watched_load(address: int, size: int) -> int:
            value = load(address, size)
            self._note(address, size, (_ACCESS,))
            return value

        def watched_store(address: int, size: int, value: int) -> None:
            store(address, size, value)
            self._note(address, size, (_ACCESS, _WRITE))

        return watched_load, watched_store
