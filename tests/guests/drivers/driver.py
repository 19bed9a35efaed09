"""What a driver is: lines of a program."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.guests.modes import MODES

#: A routine that sends ECX hexadecimal digits of EBX, from its upper end on, by another one that sends AL.
DIGITS: Final = """
    digits:
        rol ebx, 4
        mov al, bl
        and al, 15
        add al, 0x30
        cmp al, 0x3a
        jb decimal
        add al, 0x27
    decimal:
        call send
        dec ecx
        jne digits
        ret
"""


class Driver(NamedTuple):
    """A driver.

    Attributes:
        interface: What kind of disk it is for.
        lines: Its routines.
        modes: In which it runs, by bits.
        most: Sectors that it can address; None if its addresses have more than 32 bits.
    """

    interface: str
    lines: str
    modes: tuple[int, ...] = MODES
    most: int | None = None


def out(port: int, value: int | str) -> str:
    """Return lines that write a byte, or a register of one, to a port."""
    return f"mov edx, {port}\nmov al, {value}\nout dx, al\n"
