"""Memory as people look at it: ``x``, ``xp`` and ``print`` of QEMU's monitor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.isa.decode import MAX_LENGTH
from blockkit.cpu.isa.disassembly import disassemble
from blockkit.emul.gdb.memory import LinearMemory
from blockkit.emul.monitor.expressions import evaluate
from blockkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.emul.session import Session

    Read = Callable[[int, int], bytes | None]

#: Bytes shown at once, at most.
MOST: Final = 65536
_SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8, "L": 8}
_FORMAT: Final = re.compile(r"/([0-9]{0,9})([oduxicbhwgL]*)")
_NOWHERE: Final = "Cannot access memory"


class Format(NamedTuple):
    """How to show something.

    Attributes:
        items: How many numbers, or instructions.
        kind: ``x``, ``d``, ``u``, ``o`` numbers, ``c`` characters, ``i`` instructions.
        size: Bytes of each; 0 for an instruction whose mode is that of the processor.
    """

    items: int = 1
    kind: str = "x"
    size: int = 4


def parse_format(text: str) -> Format:
    """Read ``/COUNT FORMAT SIZE``, each of which may be missing, such as ``/10i`` and ``/4xw``.

    Raises:
        UsageError: it means nothing.
    """
    found = _FORMAT.fullmatch(text)
    if found is None:
        raise UsageError(f"'{text[:20]}' is no format; it is /COUNT, then one of x d u o c i, then one of b h w g")
    count, kind, size = int(found[1] or 1), "x", 0
    for letter in found[2]:
        if letter in _SIZES:
            size = _SIZES[letter]
        else:
            kind = letter
    if kind == "c":
        size = 1
    size = size or (0 if kind == "i" else 4)
    if count * (size or 1) > MOST:
        raise UsageError(f"that is more than {MOST} bytes")
    return Format(count, kind, size)


def show(session: Session, how: Format, text: str, *, physical: bool = False) -> str:
    """Return the memory at an address in lines.

    Args:
        session: The machine; it stands still meanwhile.
        how: The format.
        text: The address; see :func:`~blockkit.emul.monitor.expressions.evaluate`.
        physical: It is a physical address, and not a linear one.

    Raises:
        UsageError: the address means nothing.
    """
    slots = session.pc.cpu.get_state()
    address = evaluate(slots, text)
    memory = LinearMemory(session.pc)
    read = memory.read_physical if physical else memory.read
    digits = 16 if physical or slots[state.MODE] & state.MODE_CODE == state.MODE_64 else 8
    address &= (1 << 4 * digits) - 1
    if how.kind == "i":
        base = 0 if physical else slots[state.SEGMENT_BASES + state.CS]
        mode = {2: 16, 4: 32, 8: 64}.get(how.size, (16, 32, 64)[slots[state.MODE] & state.MODE_CODE])
        return "\n".join(_instructions(read, how.items, mode, address, base if mode != 64 else 0))
    return "\n".join(_numbers(read, how, address, digits))


def _numbers(read: Read, how: Format, address: int, digits: int) -> Iterator[str]:
    on_line = 8 if how.size == 1 else 16
    left = how.items * how.size
    while left > 0:
        wanted = min(left, on_line)
        data = read(address, wanted) or b""
        whole = len(data) - len(data) % how.size
        words = [shown(data[at : at + how.size], how.kind) for at in range(0, whole, how.size)]
        words += [] if whole == wanted else [_NOWHERE]
        yield f"{address:0{digits}x}: " + " ".join(words)
        if whole != wanted:
            return
        address, left = address + wanted & (1 << 4 * digits) - 1, left - wanted


def shown(data: bytes, kind: str) -> str:
    """Return a number, in the least significant byte's order, as a word as wide as any of its size."""
    bits, value = 8 * len(data), int.from_bytes(data, "little")
    if kind == "o":
        return f"0{value:0{-(-bits // 3)}o}"
    if kind == "u":
        return f"{value:{-(-bits * 10 // 33)}d}"
    if kind == "d":
        return f"{int.from_bytes(data, 'little', signed=True):{-(-bits * 10 // 33)}d}"
    if kind == "c":
        named = {0x27: r"\'", 0x5C: r"\\", 0x0A: r"\n", 0x0D: r"\r"}
        return "'" + named.get(value, chr(value) if 0x20 <= value < 0x7F else f"\\x{value:02x}") + "'"
    return f"0x{value:0{bits // 4}x}"


def _instructions(read: Read, count: int, mode: int, address: int, base: int) -> Iterator[str]:
    """Yield lines; the targets of jumps are offsets in the code segment that begins at ``base``."""
    bits = 64 if mode == 64 else 32
    for _ in range(count):
        data = read(address, MAX_LENGTH)
        if not data:
            yield f"0x{address:08x}:  {_NOWHERE}"
            return
        line = disassemble(data, mode, address - base & (1 << bits) - 1)
        yield f"0x{address:08x}:  {line.data.hex(' '):<24} {line.text}"
        address = address + len(line.data) & (1 << bits) - 1


def show_value(session: Session, how: Format, text: str) -> str:
    """Return the value of an expression.

    Raises:
        UsageError: it means nothing.
    """
    value = evaluate(session.pc.cpu.get_state(), text)
    if how.kind == "d":
        return str(value - (1 << 64) if value >> 63 else value)
    if how.kind == "c":
        return shown(bytes([value & 0xFF]), "c")
    return {"u": f"{value}", "o": f"0{value:o}"}.get(how.kind, f"{value:#x}")
