"""Register banks that read like the data sheet: a row for each register, and methods for what they do.

Example::

    class Port92(RegisterBank):
        control = Register(0, reset=0x02, writable=0x03)     # 82C206, system control port A

        @control.on_write
        def _control(self, value: int) -> None:
            self._gate(value)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Read = TypeVar("_Read", bound="Callable[[Any], int]")
_Write = TypeVar("_Write", bound="Callable[[Any, int], None]")


class Register:
    """A register of a bank; of a bank that exists, the number in it.

    Args:
        offset: Where, in bytes.
        access: ``rw``, ``r`` or ``w``. Two may share an offset, one for each direction.
        width: In bytes.
        reset: What it holds after reset.
        writable: The bits that a write changes; all without it.
        clear_by_one: The bits that writing ones clears.
    """

    def __init__(
        self,
        offset: int,
        access: str = "rw",
        *,
        width: int = 1,
        reset: int = 0,
        writable: int | None = None,
        clear_by_one: int = 0,
    ) -> None:
        mask = (1 << 8 * width) - 1
        self.offset, self.access, self.width, self.reset = offset, access, width, reset
        self.clear_by_one = clear_by_one & mask
        self.writable = (mask if writable is None else writable & mask) & ~clear_by_one
        self.reader: Callable[[Any], int] | None = None
        self.writer: Callable[[Any, int], None] | None = None
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, bank: None, owner: type) -> Self: ...
    @overload
    def __get__(self, bank: RegisterBank, owner: type) -> int: ...
    def __get__(self, bank: RegisterBank | None, owner: type) -> Self | int:
        return self if bank is None else bank.values[self.name]

    def __set__(self, bank: RegisterBank, value: int) -> None:
        bank.values[self.name] = value

    def on_read(self, method: _Read) -> _Read:
        """Decorate the method whose result a read of the guest gives."""
        self.reader = method
        return method

    def on_write(self, method: _Write) -> _Write:
        """Decorate the method that is called after the guest wrote, with what the register holds now."""
        self.writer = method
        return method


class RegisterBank:
    """Registers side by side: a :class:`~blockkit.emul.spaces.Device` that does not know where it is.

    An access that is narrower than a register reads or writes a part of it; one that is wider, several. Where there is
    none, reads give ones and writes nothing.

    Attributes:
        values: What the registers hold, by name.
    """

    _for_reading: ClassVar[dict[int, Register]] = {}
    _for_writing: ClassVar[dict[int, Register]] = {}

    def __init_subclass__(cls) -> None:
        """Index the registers, those of the classes above too."""
        rows = {name: row for base in reversed(cls.__mro__) for name, row in vars(base).items()}
        found = [row for row in rows.values() if isinstance(row, Register)]
        cls._for_reading = cls._by_byte(row for row in found if "r" in row.access)
        cls._for_writing = cls._by_byte(row for row in found if "w" in row.access)

    @classmethod
    def _by_byte(cls, rows: Iterable[Register]) -> dict[int, Register]:
        table: dict[int, Register] = {}
        for row in rows:
            for at in range(row.offset, row.offset + row.width):
                if table.setdefault(at, row) is not row:
                    raise TypeError(f"{cls.__name__}: {row.name} and {table[at].name} overlap")
        return table

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.reset()

    def register_at(self, offset: int, is_write: bool) -> str:
        """Return the name of the register that an access at ``offset`` meets; nothing where there is none."""
        row = (self._for_writing if is_write else self._for_reading).get(offset)
        return row.name if row is not None else ""

    def reset(self) -> None:
        """Make every register hold what it does after reset."""
        for row in (*self._for_reading.values(), *self._for_writing.values()):
            self.values[row.name] = row.reset

    def read(self, offset: int, size: int) -> int:
        """Read as the guest does."""
        value = at = 0
        while at < size:
            row = self._for_reading.get(offset + at)
            if row is None:
                value |= 0xFF << 8 * at
                at += 1
                continue
            held = row.reader(self) if row.reader else self.values[row.name]
            skipped = offset + at - row.offset
            taken = min(row.width - skipped, size - at)
            value |= (held >> 8 * skipped & (1 << 8 * taken) - 1) << 8 * at
            at += taken
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write as the guest does."""
        at = 0
        while at < size:
            row = self._for_writing.get(offset + at)
            if row is None:
                at += 1
                continue
            skipped = offset + at - row.offset
            taken = min(row.width - skipped, size - at)
            touched = (1 << 8 * taken) - 1 << 8 * skipped
            given = (value >> 8 * at << 8 * skipped) & touched
            held = self.values[row.name]
            mask = row.writable & touched
            held = (held & ~mask | given & mask) & ~(given & row.clear_by_one)
            self.values[row.name] = held
            if row.writer:
                row.writer(self, held)
            at += taken
