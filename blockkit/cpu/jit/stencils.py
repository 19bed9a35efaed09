"""The second form of a handler: code with holes, which is copied one after the other where a block is hot.

A stencil does what the handler of its form does, with what the record says in the code itself: registers, displacements
and immediates are symbols that are filled in when it is copied. It has the fast path only. Whatever else can happen
(memory that the TLB does not know, a budget that ends, an exception) goes to BAIL before anything has changed, and
so to the handler, which does the instruction again with all that belongs to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.isa.opcodes import CONDITIONS
from blockkit.cpu.jit import layout
from blockkit.cpu.jit.handlers import BASE, CONVENTION, INDEX, PARAMETERS, REG, RM, Handler, UnsupportedError
from blockkit.cpu.jit.tables import ALSO_LOCAL, COMMON, K_ANY, K_INDEX
from blockkit.cpu.sem.machine import Value
from blockkit.cpu.sem.table import ENDS
from blockkit.cpu.system.simd import finish_simd

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.isa.decode import Instruction
    from blockkit.native.llvm import Library

#: The holes that are numbers of 32 bits with a sign, and those of 64 bits.
NARROW: Final = (
    *("H_REG", "H_RM", "H_BASE", "H_INDEX", "H_XMM_REG", "H_XMM_RM", "H_DISPLACEMENT", "H_IMMEDIATE", "H_COUNT"),
    "H_LENGTH",
)
WIDE: Final = ("H_RECORD", "H_TAKEN", "H_OTHERWISE", "H_NEXT")
#: Where a stencil goes: to the next one, to the handler of its own instruction, and to one of two targets.
CONTINUE, BAIL, TAKE, GO_ON = "CONTINUE", "BAIL", "TAKE", "GO_ON"
#: The parts of a block that no instruction has.
EXIT, GOTO, TAKE_LINK, GO_ON_LINK = "exit", "goto", "take", "go_on"

#: The mnemonics that have stencils: what loops are made of.
HOT: Final = (
    COMMON
    | ALSO_LOCAL
    | frozenset((*(f"J{cc}" for cc in CONDITIONS), "POP", "RET", "LEAVE", "CWDE", "CDQE", "CDQ", "CQO", "ROL", "ROR"))
    | frozenset(("BSF", "BSR", "BSWAP", "POPCNT", "SHLD", "SHRD", "PXOR", "POR", "PAND", "PADDD", "PADDQ", "XORPS"))
)
#: What SSE computes, by the names of the functions that do: the operation and the bits.
_FLOATS: Final = {f"f{bits}_{name}": (f"f{name}", bits) for bits in (32, 64) for name in ("add", "sub", "mul", "div")}
#: The bits of MXCSR that matter, and what they are where nothing has to be noted; see
#: :mod:`blockkit.cpu.system.softfloat_64`.
_FLOAT_CONTROL, _FLOAT_PLAIN = 0xFFE0, 0x1FA0
_FLAGS: Final = (state.RES, state.COUT, state.SHIFT)
_NAMES: Final = {REG: "H_REG", RM: "H_RM", BASE: "H_BASE", INDEX: "H_INDEX"}
_VECTORS: Final = {REG: "H_XMM_REG", RM: "H_XMM_RM"}
_ATTRIBUTES: Final = "nounwind optsize"


def _hole(name: str) -> str:
    return f"ptrtoint (ptr @{name} to i64)"


class Stencil(Handler):
    """Collects the lines of one stencil.

    Args:
        shape: As for a handler.
        mode: As for a handler.
        kind: As for a handler.
        library: As for a handler.
        scale: The power of two that the index is multiplied with.
        flags: False where nobody needs the flags that it sets.

    Attributes:
        reads_flags: It needs some that were there before.
        bails: It may go back to its handler, which may need them.
        sets: The parts of the flags that it sets.
    """

    def __init__(
        self, shape: Instruction, mode: int, kind: int, library: Library, scale: int = 0, *, flags: bool = True
    ) -> None:
        if kind == K_ANY or HOT.isdisjoint(shape.form.names):
            raise UnsupportedError
        super().__init__(shape, mode, kind, library)
        self._scale, self._flags = scale, flags
        self.reads_flags = self.bails = False
        self.sets: set[int] = set()
        self._left = "%left"
        self._changed = False
        if any(name in ENDS for name in shape.form.names):
            # Before all else, so that nothing has changed if the budget ends.
            self._left = self._emit(f"sub i64 %left, {_hole('H_COUNT')}")
            self._bail_if(self._emit(f"icmp slt i64 {self._left}, 0"))

    def text(self, name: str) -> str:
        if not self.ended:
            self._tail(f"@{CONTINUE}", "%ip")
        return "\n".join(
            [f"define {CONVENTION} void @{name}({PARAMETERS}) {_ATTRIBUTES} {{", "entry:", *self.lines, "}"]
        )

    def _bail_if(self, condition: str) -> None:
        bad, well = self._label(), self._label()
        self.lines.append(f"br i1 {condition}, label %{bad}, label %{well}, !prof !1")
        self.lines.append(f"{bad}:")
        self._bail()
        self.lines.append(f"{well}:")

    def _bail(self) -> None:
        if self._changed:
            raise UnsupportedError
        self.bails = True
        self.lines.append(
            f"musttail call {CONVENTION} void @{BAIL}(ptr %S, ptr %ip, i64 %res, i64 %cout, i64 %left, ptr %tlb)"
        )
        self.lines.append("ret void")

    # -- parts of the instruction --------------------------------------------------------------------------

    def _read(self, offset: int, bits: int) -> str:
        names = {layout.DISPLACEMENT: "H_DISPLACEMENT", layout.IMMEDIATE: "H_IMMEDIATE"}
        if offset not in names:
            raise UnsupportedError
        return _hole(names[offset])

    def effective(self) -> Value:
        total = self.slot(BASE)
        if self._kind == K_INDEX or self.instruction.index is not None:
            index = self.slot(INDEX)
            total = total + (index << self._scale if self._scale else index)
        return total + self.displacement()

    def length(self) -> Value:
        return Value(self, _hole("H_LENGTH"), 64)

    def next(self) -> Value:
        return Value(self, _hole("H_NEXT"), 64)

    def segment(self) -> Value:
        raise UnsupportedError

    def field(self, name: str) -> Value:
        raise UnsupportedError

    # -- state ---------------------------------------------------------------------------------------------

    def _pointer(self, number: int) -> str:
        if number in _NAMES:
            return self._emit(f"getelementptr i8, ptr %S, i64 {_hole(_NAMES[number])}")
        return self._slot_pointer(number)

    def slot(self, number: int) -> Value:
        if number in _FLAGS and number not in self.sets:
            self.reads_flags = True
        return super().slot(number)

    def set_slot(self, number: int, value: Value) -> None:
        if number in _FLAGS:
            self.sets.add(number)
            if not self._flags:
                return
        if number not in (state.RES, state.COUT):
            self._changed = True
        super().set_slot(number, value)

    @property
    def kills_flags(self) -> bool:
        """Whether it sets all of them, whatever they were."""
        return len(self.sets) == len(_FLAGS) and not self.reads_flags

    def set_register(self, number: int, value: Value, *, high: bool = False) -> None:
        super().set_register(number, value, high=high)
        self._changed = True

    def set_xmm_half(self, number: int, half: int, value: Value) -> None:
        super().set_xmm_half(number, half, value)
        self._changed = True

    def set_xmm(self, number: int, value: Value) -> None:
        super().set_xmm(number, value)
        self._changed = True

    def set_mmx(self, number: int, value: Value) -> None:
        raise UnsupportedError

    def _vector_pointer(self, number: int, half: int) -> str:
        if number not in _VECTORS:
            return super()._vector_pointer(number, half)
        start = self._emit(f"getelementptr i8, ptr %S, i64 {_hole(_VECTORS[number])}")
        return self._emit(f"getelementptr i8, ptr {start}, i64 {half * 8}") if half else start

    def _mmx_pointer(self, number: int) -> str:
        raise UnsupportedError

    # -- memory --------------------------------------------------------------------------------------------

    def load(self, address: Value, bits: int) -> Value:
        if bits not in (8, 16, 32, 64, 128):
            raise UnsupportedError
        host, miss = self._translated(address, bits // 8, write=False)
        found = self._emit(f"load i{bits}, ptr {host}, align 1")
        self._end_of_miss(miss)
        return Value(self, found, bits)

    def store(self, address: Value, value: Value) -> None:
        host, miss = self._translated(address, value.bits // 8, write=True)
        after = self._label()
        self.lines += [f"br label %{after}", f"{miss}:"]
        self._bail()
        self.lines += [f"{after}:", f"store i{value.bits} {value.text}, ptr {host}, align 1"]
        self._changed = True

    def _end_of_miss(self, miss: str) -> None:
        after = self._label()
        self.lines += [f"br label %{after}", f"{miss}:"]
        self._bail()
        self.lines.append(f"{after}:")

    def fault_if(self, condition: Value, vector: int) -> None:
        self._bail_if(condition.text)

    # -- system code ---------------------------------------------------------------------------------------

    def _system(self, name: str, arguments: list[str]) -> str:
        raise UnsupportedError

    def call(self, function: Callable[..., int | None], *arguments: Value | int) -> Value:
        raise UnsupportedError

    def compute(self, function: Callable[..., int | None], *arguments: Value | int) -> Value:
        if function is finish_simd:
            return self.constant(0, 64)
        if function.__name__ not in _FLOATS:
            raise UnsupportedError
        operation, bits = _FLOATS[function.__name__]
        operands = [each if isinstance(each, Value) else self.constant(each, 64) for each in arguments]
        control = self._emit(f"and i64 {super().slot(state.MXCSR).text}, {_FLOAT_CONTROL}")
        self._bail_if(self._emit(f"icmp ne i64 {control}, {_FLOAT_PLAIN}"))
        kind = "float" if bits == 32 else "double"
        numbers = []
        for each in operands:
            self._bail_unless_plain(each, bits, zero=operation != "fdiv")
            whole = each.text if bits == 64 else self._emit(f"trunc i64 {each.text} to i32")
            numbers.append(self._emit(f"bitcast i{bits} {whole} to {kind}"))
        result = self._emit(f"bitcast {kind} {self._emit(f'{operation} {kind} {numbers[0]}, {numbers[1]}')} to i{bits}")
        value = Value(self, result if bits == 64 else self._emit(f"zext i32 {result} to i64"), 64)
        self._bail_unless_plain(value, bits, zero=operation in ("fadd", "fsub"))
        return value

    def _bail_unless_plain(self, value: Value, bits: int, *, zero: bool) -> None:
        """Leave numbers that are denormal, infinite or NaN, or nearly, to the handler; ``zero`` may be here."""
        step = 1 << (23 if bits == 32 else 52)
        magnitude = value & (1 << bits - 1) - 1
        odd = ~(magnitude - 2 * step).below((0xFD if bits == 32 else 0x7FD) * step)
        self._bail_if((odd & ~magnitude.equals(0) if zero else odd).text)

    # -- where it goes on ----------------------------------------------------------------------------------

    def _count_down(self) -> str:
        return self._left

    def _check_attention(self) -> None:
        return None

    def jump(self, target: Value) -> None:
        self.lines.append(f"store i64 {target.text}, ptr {self._slot_pointer(state.RIP)}")
        place = ((target ^ (target >> 12)) & (layout.JUMP_ENTRIES - 1)) << 4
        entry = self._emit(f"getelementptr i8, ptr %S, i64 {(place + layout.JUMPS * 8).text}")
        key = self._emit(f"load i64, ptr {self._slot_pointer(layout.JUMP_KEY)}")
        tag = self._emit(f"or i64 {(target & (1 << 48) - 1).text}, {self._emit(f'shl i64 {key}, 48')}")
        same = self._emit(f"icmp eq i64 {self._emit(f'load i64, ptr {entry}')}, {tag}")
        hit, miss = self._label(), self._label()
        self.lines.append(f"br i1 {same}, label %{hit}, label %{miss}, !prof !0")
        self.lines.append(f"{miss}:")
        self._tail("@go_offset", self._emit(f"inttoptr i64 {_hole('H_RECORD')} to ptr"), self._left)
        self.lines.append(f"{hit}:")
        record = self._emit(f"load ptr, ptr {self._emit(f'getelementptr i8, ptr {entry}, i64 8')}")
        self._dispatch(record, self._left)
        self.ended = True

    def jump_relative(self, condition: Value | None) -> None:
        self.ended = True
        if condition is None:
            self._tail(f"@{TAKE}", "%ip", self._left)
            return
        yes, no = self._label(), self._label()
        self.lines.append(f"br i1 {condition.text}, label %{yes}, label %{no}")
        for label, where in ((yes, TAKE), (no, GO_ON)):
            self.lines.append(f"{label}:")
            self._tail(f"@{where}", "%ip", self._left)

    def leave(self) -> None:
        raise UnsupportedError


def stencil_name(number: int, scale: int | None, *, flags: bool = True) -> str:
    """Return the name of the stencil of a handler, of one that sets no flags with a ``q`` at its end."""
    return (f"s{number}" if scale is None else f"s{number}_{scale}") + ("" if flags else "q")


def traits(made: Stencil) -> str:
    """Return in letters what :mod:`blockkit.cpu.jit.hot` has to know: n for flags it needs, k where it kills them."""
    return ("n" if made.reads_flags or made.bails else "") + ("k" if made.kills_flags else "")


def declarations() -> str:
    """Return what all stencils refer to."""
    lines = ["!2 = !{i64 -2147483648, i64 2147483648}", "!3 = !{i64 -1, i64 -1}"]
    lines += [f"@{name} = external global i8, !absolute_symbol !2" for name in NARROW]
    lines += [f"@{name} = external global i8, !absolute_symbol !3" for name in WIDE]
    targets = (CONTINUE, BAIL, TAKE, GO_ON, "go_offset", "PLAIN")
    lines += [f"declare {CONVENTION} void @{name}({PARAMETERS})" for name in targets]
    return "\n".join(lines)


def _part(name: str, body: str) -> str:
    return f"define {CONVENTION} void @{name}({PARAMETERS}) {_ATTRIBUTES} {{\nentry:\n{body}\nret void\n}}"


def _link(name: str, cell: str) -> str:
    """Go on where a record says."""
    return _part(
        name,
        f"%next = load ptr, ptr @{cell}\n%code = load ptr, ptr %next\n"
        f"musttail call {CONVENTION} void %code(ptr %S, ptr %next, i64 %res, i64 %cout, i64 %left, ptr %tlb)",
    )


def parts() -> list[str]:
    """Return the parts that no instruction has: to the handler of a record, and to where blocks go on."""
    call = f"musttail call {CONVENTION} void"
    rest = "i64 %res, i64 %cout"
    return [
        _part(EXIT, f"{call} @PLAIN(ptr %S, ptr @H_RECORD, {rest}, i64 %left, ptr %tlb)"),
        _link(TAKE_LINK, "H_TAKEN"),
        _link(GO_ON_LINK, "H_OTHERWISE"),
        _part(
            GOTO,
            f"""%after = sub i64 %left, {_hole("H_COUNT")}
%stop = icmp slt i64 %after, 0
br i1 %stop, label %leave, label %go, !prof !1
leave:
{call} @{BAIL}(ptr %S, ptr %ip, {rest}, i64 %left, ptr %tlb)
ret void
go:
{call} @{TAKE}(ptr %S, ptr %ip, {rest}, i64 %after, ptr %tlb)""",
        ),
    ]
