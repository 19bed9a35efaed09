"""All handlers: each form of the opcode map, with each operand size and each kind of operand in memory it can have."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.isa.decode import Instruction
from blockkit.cpu.isa.operands import MEMORY_OR_REGISTER, Where
from blockkit.cpu.jit import glue, layout, stencils
from blockkit.cpu.jit.handlers import BASE, INDEX, REG, RM, Handler, UnsupportedError
from blockkit.cpu.jit.stencils import Stencil, stencil_name, traits
from blockkit.cpu.jit.tables import (
    K_ANY,
    K_BASE,
    K_INDEX,
    K_NARROW,
    K_NONE,
    KINDS,
    OF_ANY_ADDRESS,
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
from blockkit.native.llvm import Library

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
#: The operand size whose stencils for elements of arrays are not worth their compiling.
_SELDOM: Final = 2
#: Operand sizes that mean nothing to a form, whose handlers are then the same.
_BY_SIZE: Final = frozenset(("v", "z", "y", "n", "p", "s", "a", "qd", "fe", "fs", "bs"))


class Source(NamedTuple):
    """Everything native, as LLVM assembly.

    Attributes:
        common: System code, and the table of handlers.
        handlers: The handlers, a function each.
        stencils: The second form of some of them: ``s`` and their numbers, and where the index of an address is scaled,
            the power of two.
    """

    common: str
    handlers: list[str]
    stencils: list[str]


def _shape(form: Form, size: int, kind: int, way: int) -> Instruction:
    """Return an instruction of a form whose registers are fields of its record."""
    shape = Instruction(form, 64 if way == W_64 else 32)
    shape.operand_size = size
    shape.rex = 0x40
    if kind == K_NONE or is_string(form):
        shape.address_size = 0 if kind in (K_NARROW, K_ANY) else {W_64: 8, W_16: 2}.get(way, 4)
        shape.mod = 3
        shape.reg, shape.rm = REG, RM
        shape.repeat = {K_BASE: 0xF3, K_NARROW: 0xF3, K_INDEX: 0xF2}.get(kind, 0)
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
        more = (K_NARROW, K_ANY) if way != W_64 and form.names[0] in OF_ANY_ADDRESS else ()
        return (K_NONE, K_BASE, K_INDEX, *more)
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
    library = Library(modules, (state.FAULT_VECTOR, state.FAULT_ERROR))
    numbers: dict[str, int] = {}
    texts: list[str] = []
    second: dict[str, str] = {}
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
                        if number != layout.NO_HANDLER and way in (W_64, W_FLAT):
                            _add_stencils(form, size, made, way, library, number, second)
                    table[((place * SIZES + index) * KINDS + kind) * WAYS + way] = number
    library.tables["FORM_HANDLERS"] = tuple(table)
    names = [*glue.FIRST, *(f"h{number}" for number in range(len(texts)))]
    addresses = ", ".join(f"ptr @{name}" for name in names)
    constant = f"@handlers = constant [{len(names)} x ptr] [{addresses}]"
    return Source(f"{library.lower()}\n{glue.text()}\n{constant}", texts, list(second.values()))


def stencil_module(made: Source) -> str:
    """Return the stencils as a module."""
    shared = [line for line in made.common.splitlines() if line.startswith(("declare", "!"))]
    return "\n".join([*shared, stencils.declarations(), *stencils.parts(), *made.stencils])


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


def _add_stencils(
    form: Form, size: int, kind: int, way: int, library: Library, number: int, second: dict[str, str]
) -> None:
    """Generate the stencils of a handler, unless there are some or it cannot have any."""
    scaled = kind in (K_INDEX, K_NARROW) and not is_string(form)
    if scaled and size == _SELDOM:
        return
    for scale in range(4) if scaled else (None,):
        # Compiling takes its time: elements of arrays are seldom followed by nobody who needs the flags.
        for flags in (True,) if scaled else (True, False):
            name = stencil_name(number - layout.FIRST_FORM, scale, flags=flags)
            if name in second:
                return
            shape = _shape(form, size, kind, way)
            meaning = semantics(shape)
            assert meaning is not None, "it has a handler"
            try:
                made = Stencil(shape, _MODES[way], kind, library, scale or 0, flags=flags)
                meaning(made)
            except UnsupportedError:
                return
            second[name] = made.text(f"{name}.{traits(made)}")
            if not made.sets or made.ended:
                break
