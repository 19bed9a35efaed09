"""Sizes and alignment: the arithmetic every layer shares. Everything here counts bytes."""

from __future__ import annotations

import re
from typing import Final

from blockkit.errors import OptionError

KiB: Final = 1 << 10
MiB: Final = 1 << 20
GiB: Final = 1 << 30
TiB: Final = 1 << 40

#: Bytes that storage writes whole or not at all; disks are counted in whole ones, as QEMU does.
SECTOR: Final = 512

#: No size or offset on a host or in an image may exceed this (off_t).
MAX_OFFSET: Final = (1 << 63) - 1

_SUFFIX: Final = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_SIZE: Final = re.compile(r"(\d+)(?:\.(\d+))?([bkmgtpe]?)(?:ib|b)?", re.ASCII | re.IGNORECASE)
_HEX: Final = re.compile(r"0x[0-9a-f]+", re.IGNORECASE)


def align_up(value: int, alignment: int) -> int:
    """Return the smallest multiple of ``alignment`` (any positive integer) that is >= ``value``."""
    return -(-value // alignment) * alignment


def align_down(value: int, alignment: int) -> int:
    """Return the largest multiple of ``alignment`` (any positive integer) that is <= ``value``."""
    return value // alignment * alignment


def is_power_of_two(value: int) -> bool:
    """Tell whether ``value`` is 1, 2, 4, 8, ..."""
    return value > 0 and value & (value - 1) == 0


def parse_size(text: str, *, default_suffix: str = "") -> int:
    """Read ``"64K"``, ``"1.5G"``, ``"10GiB"`` or ``"0x200"`` as bytes; suffixes are powers of 1024.

    A fraction of a larger unit is rounded down to whole bytes, as QEMU does; one of a byte means nothing.

    Raises:
        OptionError: ``text`` is not a size, is a fraction of a byte, or exceeds 2**63 - 1.
    """
    text = text.strip()
    if _HEX.fullmatch(text):
        value = int(text, 16)
    elif match := _SIZE.fullmatch(text):
        whole, fraction, suffix = match[1], match[2] or "", match[3].lower() or default_suffix.lower()
        if len(whole) > 20 or len(fraction) > 20:
            raise OptionError(f"size {text[:40]!r} is too large; at most {MAX_OFFSET} bytes")
        if fraction.strip("0") and not _SUFFIX[suffix]:
            raise OptionError(f"{text!r} is not a whole number of bytes, and a fraction needs a suffix such as K or M")
        # Exact: "1.1T" must not pass through a float.
        value = (int(whole + fraction) << _SUFFIX[suffix]) // 10 ** len(fraction)
    else:
        raise OptionError(f"{text!r} is not a size such as 64K, 1.5G or 512")
    if value > MAX_OFFSET:
        raise OptionError(f"size {text!r} is too large; at most {MAX_OFFSET} bytes")
    return value


def format_size(value: int) -> str:
    """Return ``value`` bytes as a person reads it: ``"2 GiB"``, ``"1.5 MiB"``, ``"324 KiB"``.

    Three significant digits, the unit chosen so that the number is below 1024; the same text qemu-img prints.
    """
    if value < 1000:
        return f"{value} B"
    number, unit = float(value), 0
    # 1000 of a unit already goes to the next one, so that three digits are enough.
    while number >= 1000 and unit < 6:
        number, unit = number / 1024, unit + 1
    return f"{number:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB')[unit]}"
