"""All handlers: each form of the opcode map, with each operand size and each kind of operand in memory it can have."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.dialect.llvm import Library
from blockkit.cpu.isa.decode import Instruction
from blockkit.cpu.isa.operands import MEMORY_OR_REGISTER, Where
from blockkit.cpu.jit import glue, layout
from blockkit.cpu.jit.handlers import BASE, INDEX, REG, RM, Handler, UnsupportedError
from blockkit.cpu.jit.tables import (
    K_ANY,
    K_BASE,
    K_INDEX,
    K_NARROW,
    K_NONE,
    KINDS,
    SIZES,
    W_16,
    W_32,
    W_64,
    W_FLAT,
    WAYS,
    all_forms,
    is_left_to_any,
)
from blockkit.cpu.sem.table import is_string, semantics
from blockkit.cpu.system import MODULES

if TYPE_CHECKING:
    from blockkit.cpu.isa.forms import Form

#: The system code that only native code has.
NATIVE_MODULES: Final = tuple(f"blockkit.cpu.jit.{name}" for name in ("memory", "translate", "blocks", "entries"))

_MODES: Final = {
    W_64: state.MODE_64 | state.MODE_PROTECTED | state.MODE_FLAT,
    W_FLAT: state.MODE_32 | state.MODE_STACK_32 | state.MODE_PROTECTED | state.MODE_FLAT,
    W_32: state.MODE_32 | state.MODE_STACK_32 | state.MODE_PROTECTED,
    W_16: state.MODE_16,
}
_KINDS_OF: Final = {W_64: (K_BASE, K_INDEX, K_NARROW, K_ANY), W_FLAT: (K_NARROW, K_ANY), W_32: (K_ANY,), W_16: (K_ANY,)}
#: Operand sizes that mean nothing to a form, whose handlers are then the same.
_BY_SIZE: Final = frozenset(("v", "z", "y", "n", "p", "s", "a", "qd", "fe", "fs", "bs"))


class Source(NamedTuple):
    """Everything native, as LLVM assembly.

    Attributes:
        common: System code, and the table of handlers.
        handlers: The handlers, a function each.
    """

    common: str
    handlers: list[str]


def _shape(form: Form, size: int, kind: int, way: int) -> Instruction:
    """Return an instruction of a form whose registers are fields of its record."""
    shape = Instruction(form, 64 if way == W_64 else 32)
    shape.operand_size = size
    shape.rex = 0x40
    if kind == K_NONE or is_string(form):
        shape.address_size = {W_64: 8, W_16: 2}.get(way, 4)
        shape.mod = 3
        shape.reg, shape.rm = REG, RM
        shape.repeat = {K_BASE: 0xF3, K_INDEX: 0xF2}.get(kind, 0)
        return shape
    shape.address_size = 4 if kind == K_NARROW else 8
    shape.mod = 0
    shape.reg, shape.rm, shape.base = REG, RM, BASE
    shape.index = INDEX if kind in (K_INDEX, K_NARROW) else None
    return shape


def _kinds(form: Form, way: int) -> tuple[int, ...]:
    """Return the kinds of operands that a form can have."""
    wheres = {operand.where for operand in form.operands}
    if Where.OFFSET in wheres:
        return (K_BASE, K_NARROW, K_ANY) if way == W_64 else _KINDS_OF[way]
    if is_string(form):
        return K_NONE, K_BASE, K_INDEX
    if not form.modrm:
        return (K_NONE,)
    may_be_memory = bool(wheres & (MEMORY_OR_REGISTER | {Where.MEMORY})) and form.memory is not False
    may_be_register = form.memory is not True
    return ((K_NONE,) if may_be_register else ()) + (_KINDS_OF[way] if may_be_memory else ())


def _is_left_out(form: Form, size: int, kind: int) -> bool:
    """Whether Python has to do it: what looks at the numbers of registers."""
    return form.name(size) == "POP" and kind != K_NONE


def source() -> Source:
    """Generate everything."""
    modules = [import_module(name) for name in (*MODULES, *NATIVE_MODULES)]
    library = Library(modules)
    numbers: dict[str, int] = {}
    texts: list[str] = []
    table = [layout.NO_HANDLER] * (len(all_forms()) * SIZES * KINDS * WAYS)
    done: dict[tuple[object, ...], int] = {}
    for place, form in enumerate(all_forms()):
        sized = len(form.names) > 1 or any(operand.size in _BY_SIZE for operand in form.operands)
        known = (form.names, form.operands, form.flags, form.modrm, form.memory, form.opcode == 0x90)
        for index, size in enumerate((2, 4, 8)):
            for way in range(WAYS):
                if size == 8 and way != W_64 and sized:
                    continue
                for kind in _kinds(form, way):
                    if _is_left_out(form, size, kind):
                        continue
                    made = K_ANY if is_left_to_any(form, kind) else kind
                    key = (*known, size, made, way)
                    number = done.get(key)
                    if number is None:
                        number = done[key] = _make(form, size, made, way, library, numbers, texts)
                    table[((place * SIZES + index) * KINDS + kind) * WAYS + way] = number
    library.tables["FORM_HANDLERS"] = tuple(table)
    names = [*glue.FIRST, *(f"h{number}" for number in range(len(texts)))]
    addresses = ", ".join(f"ptr @{name}" for name in names)
    constant = f"@handlers = constant [{len(names)} x ptr] [{addresses}]"
    return Source(f"{library.lower()}\n{glue.text()}\n{constant}", texts)


def _make(
    form: Form, size: int, kind: int, way: int, library: Library, numbers: dict[str, int], texts: list[str]
) -> int:
    """Generate a handler, unless there is the same one, and return its number."""
    shape = _shape(form, size, kind, way)
    meaning = semantics(shape)
    if meaning is None:
        return layout.NO_HANDLER
    handler = Handler(shape, _MODES[way], kind, library)
    try:
        meaning(handler)
    except UnsupportedError:
        return layout.NO_HANDLER
    body = handler.text("?")
    number = numbers.get(body)
    if number is None:
        number = numbers[body] = layout.FIRST_FORM + len(texts)
        texts.append(body.replace("@?", f"@h{len(texts)}", 1))
    return number
