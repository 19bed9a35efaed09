"""Registers as GDB numbers them, for the mode the processor is in (Debugging with GDB, G.5.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state

if TYPE_CHECKING:
    from collections.abc import Iterator

_I386: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_AMD64: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
_SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
_SEGMENT_NUMBERS: Final = {
    "es": state.ES,
    "cs": state.CS,
    "ss": state.SS,
    "ds": state.DS,
    "fs": state.FS,
    "gs": state.GS,
}
#: The x87's environment, each 32 bits wide here.
_X87: Final = {
    "fctrl": state.FCW,
    "fstat": state.FSW,
    "ftag": state.FTW,
    "fiseg": state.FCS,
    "fioff": state.FIP,
    "foseg": state.FDS,
    "fooff": state.FDP,
    "fop": state.FOP,
}

#: The ways to look at 16 bytes: name, GDB's name of the type, how many.
_VECTORS: Final = (
    *(("v4_float", "ieee_single", 4), ("v2_double", "ieee_double", 2), ("v16_int8", "int8", 16)),
    *(("v8_int16", "int16", 8), ("v4_int32", "int32", 4), ("v2_int64", "int64", 2)),
)


class Register(NamedTuple):
    """One of GDB's registers.

    Attributes:
        name: GDB's.
        bits: Its width.
        type: GDB's name of its type.
        feature: The part of the description it belongs to.
    """

    name: str
    bits: int
    type: str
    feature: str


def _list(is_64: bool) -> Iterator[Register]:
    width = 64 if is_64 else 32
    core, sse = "org.gnu.gdb.i386.core", "org.gnu.gdb.i386.sse"
    stack, code = ("rsp", "rip") if is_64 else ("esp", "eip")
    for name in _AMD64 if is_64 else _I386:
        kind = "data_ptr" if name in (stack, stack.replace("sp", "bp")) else f"int{width}"
        yield Register(name, width, kind, core)
    yield Register(code, width, "code_ptr", core)
    yield Register("eflags", 32, "int32", core)
    for name in _SEGMENTS:
        yield Register(name, 32, "int32", core)
    for number in range(8):
        yield Register(f"st{number}", 80, "i387_ext", core)
    for name in _X87:
        yield Register(name, 32, "int", core)
    for number in range(16 if is_64 else 8):
        yield Register(f"xmm{number}", 128, "vec128", sse)
    yield Register("mxcsr", 32, "int32", sse)
    if is_64:
        for name in ("fs_base", "gs_base"):
            yield Register(name, 64, "int64", "org.gnu.gdb.i386.segments")


#: By whether the processor is in 64-bit mode.
REGISTERS: Final = {False: tuple(_list(False)), True: tuple(_list(True))}


def description(is_64: bool) -> str:
    """Return the XML that tells GDB of the registers."""
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>"]
    lines.append(f"<architecture>{'i386:x86-64' if is_64 else 'i386'}</architecture>")
    feature = ""
    for number, each in enumerate(REGISTERS[is_64]):
        if each.feature != feature:
            if feature:
                lines.append("</feature>")
            feature = each.feature
            lines.append(f'<feature name="{feature}">')
            if feature.endswith(".sse"):
                lines.extend(_vectors())
        lines.append(f'<reg name="{each.name}" bitsize="{each.bits}" type="{each.type}" regnum="{number}"/>')
    return "\n".join((*lines, "</feature>", "</target>"))


def _vectors() -> Iterator[str]:
    for name, kind, count in _VECTORS:
        yield f'<vector id="{name}_type" type="{kind}" count="{count}"/>'
    yield '<union id="vec128">'
    for name, *_ in _VECTORS:
        yield f'<field name="{name}" type="{name}_type"/>'
    yield '<field name="uint128" type="uint128"/></union>'


def read(slots: list[int], register: Register) -> int:
    """Return a register of a state."""
    name = register.name
    if name == "eflags":
        return state.rflags(slots)
    if name == "mxcsr":
        return slots[state.MXCSR]
    if name in _SEGMENT_NUMBERS:
        return slots[state.SELECTORS + _SEGMENT_NUMBERS[name]]
    if name.endswith("_base"):
        return slots[state.SEGMENT_BASES + _SEGMENT_NUMBERS[name[:2]]]
    if name in _X87:
        return slots[_X87[name]] & 0xFFFFFFFF
    at = _pair(slots, name)
    if at is not None:
        high = slots[at + 1] & (0xFFFF if register.bits == 80 else (1 << 64) - 1)
        return slots[at] | high << 64
    return slots[_general(name)] & (1 << register.bits) - 1


def write(slots: list[int], register: Register, value: int) -> None:
    """Set one; segments only where a selector alone says what the segment is, in real mode."""
    name = register.name
    value &= (1 << register.bits) - 1
    at = _pair(slots, name)
    if name == "eflags":
        state.set_rflags(slots, value)
    elif name == "mxcsr":
        slots[state.MXCSR] = value & 0xFFFF
    elif name in _SEGMENT_NUMBERS:
        if not slots[state.CR0] & state.CR0_PE:
            slots[state.SELECTORS + _SEGMENT_NUMBERS[name]] = value & 0xFFFF
            slots[state.SEGMENT_BASES + _SEGMENT_NUMBERS[name]] = (value & 0xFFFF) << 4
    elif name.endswith("_base"):
        slots[state.SEGMENT_BASES + _SEGMENT_NUMBERS[name[:2]]] = value
    elif name in _X87:
        slots[_X87[name]] = value & (0xFFFFFFFF if name in ("fioff", "fooff") else 0xFFFF)
    elif at is not None:
        slots[at], slots[at + 1] = value & (1 << 64) - 1, value >> 64
    else:
        slots[_general(name)] = value


def _general(name: str) -> int:
    if name in ("rip", "eip"):
        return state.RIP
    return state.REGISTERS.index(name if name.startswith("r") else f"r{name[1:]}")


def _pair(slots: list[int], name: str) -> int | None:
    """Return the first of the two slots of an x87 or XMM register."""
    if name.startswith("xmm"):
        return state.XMM + 2 * int(name[3:])
    if name.startswith("st"):
        top = slots[state.FSW] >> 11 & 7
        return state.X87 + 2 * (top + int(name[2:]) & 7)
    return None
