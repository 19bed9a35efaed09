"""Emitting the semantics of one form as a native handler, in LLVM assembly.

A handler gets the state, its record, the two numbers that tell the flags, what is left of the budget and the
translations in use; it ends by calling the next record's handler with the same, which takes its place on the stack. So
those six are in registers all the time, and everything else is in the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.jit import layout
from blockkit.cpu.jit.packed import emit as emit_packed
from blockkit.cpu.jit.tables import K_ANY, K_NARROW
from blockkit.cpu.sem.machine import Machine, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.isa.decode import Instruction
    from blockkit.native.llvm import Library

#: Names of parts of the record, where the semantics expect the number of a register.
REG, RM, BASE, INDEX = 1001, 1002, 1003, 1004
_FIELDS: Final = {REG: layout.REG, RM: layout.RM, BASE: layout.BASE, INDEX: layout.INDEX}

CONVENTION: Final = "preserve_nonecc"
PARAMETERS: Final = "ptr %S, ptr %ip, i64 %res, i64 %cout, i64 %left, ptr %tlb"

_OPERATORS: Final = {
    "add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl", "shr": "lshr",
    "sar": "ashr", "div": "udiv", "rem": "urem",
}  # fmt: skip


_MEMORY_BITS: Final = (8, 16, 32, 64, 128)


class UnsupportedError(Exception):
    """The semantics need something that only Python has."""


class Handler(Machine):
    """Collects the lines of one handler.

    Args:
        shape: An instruction of the form, whose registers are REG, RM, BASE and INDEX.
        mode: As of MODE.
        kind: How the address of its memory operand is made; see :mod:`blockkit.cpu.jit.tables`.
        library: The system code.

    Attributes:
        lines: So far.
        ended: It goes somewhere.
        stages_mode: What it does depends on ``mode``.
    """

    def __init__(self, shape: Instruction, mode: int, kind: int, library: Library) -> None:
        self.instruction, self._mode, self._kind, self._library = shape, mode, kind, library
        self.place = None
        self.lines: list[str] = []
        self.ended = False
        self.stages_mode = False
        self._count = 0
        self._result, self._carries = "%res", "%cout"
        self._touches = False

    @property
    def mode(self) -> int:  # type: ignore[override]
        """What MODE holds."""
        self.stages_mode = True
        return self._mode

    def text(self, name: str) -> str:
        """Return the function."""
        if not self.ended:
            self._dispatch(self._emit(f"getelementptr i8, ptr %ip, i64 {layout.RECORD_SIZE}"))
        head = f"define {CONVENTION} void @{name}({PARAMETERS}) nounwind {{"
        return "\n".join([head, "entry:", *self.lines, "}"])

    # -- lines ---------------------------------------------------------------------------------------------

    def _emit(self, text: str) -> str:
        self._count += 1
        self.lines.append(f"%v{self._count} = {text}")
        return f"%v{self._count}"

    def _label(self) -> str:
        self._count += 1
        return f"b{self._count}"

    def _value(self, text: str, bits: int) -> Value:
        return Value(self, self._emit(text), bits)

    def _tail(self, target: str, record: str, left: str = "%left", tlb: str = "%tlb") -> None:
        """Go to a handler."""
        self.lines.append(
            f"musttail call {CONVENTION} void {target}(ptr %S, ptr {record}, i64 {self._result}, i64 {self._carries}, "
            f"i64 {left}, ptr {tlb})"
        )
        self.lines.append("ret void")

    def _dispatch(self, record: str, left: str = "%left", tlb: str = "%tlb") -> None:
        """Go on with a record."""
        self._tail(self._emit(f"load ptr, ptr {record}"), record, left, tlb)

    def _slot_pointer(self, number: int) -> str:
        return self._emit(f"getelementptr i8, ptr %S, i64 {number * 8}")

    def _read(self, offset: int, bits: int) -> str:
        """Read a field of the record, 64 bits."""
        found = self._emit(f"load i{bits}, ptr {self._emit(f'getelementptr i8, ptr %ip, i64 {offset}')}, align 1")
        return found if bits == 64 else self._emit(f"zext i{bits} {found} to i64")

    # -- numbers -------------------------------------------------------------------------------------------

    def constant(self, number: int, bits: int) -> Value:
        number &= (1 << bits) - 1
        return Value(self, ("true" if number else "false") if bits == 1 else str(number), bits)

    def operate(self, name: str, first: Value, second: Value) -> Value:
        assert first.bits == second.bits, (name, first.bits, second.bits)
        if name in ("div", "rem") and first.bits > 64:
            raise UnsupportedError
        return self._value(f"{_OPERATORS[name]} i{first.bits} {first.text}, {second.text}", first.bits)

    def compare(self, name: str, first: Value, second: Value) -> Value:
        assert first.bits == second.bits, (name, first.bits, second.bits)
        return self._value(f"icmp {name} i{first.bits} {first.text}, {second.text}", 1)

    def resize(self, name: str, value: Value, bits: int) -> Value:
        return self._value(f"{name} i{value.bits} {value.text} to i{bits}", bits)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        bits = yes.bits
        return self._value(f"select i1 {condition.text}, i{bits} {yes.text}, i{bits} {no.text}", bits)

    def count_ones(self, value: Value) -> Value:
        bits = value.bits
        return self._value(f"call i{bits} @llvm.ctpop.i{bits}(i{bits} {value.text})", bits)

    def bit_length(self, value: Value) -> Value:
        bits = value.bits
        zeros = self._emit(f"call i{bits} @llvm.ctlz.i{bits}(i{bits} {value.text}, i1 false)")
        return self._value(f"sub i{bits} {bits}, {zeros}", bits)

    def divide(self, high: Value, low: Value, divisor: Value) -> tuple[Value, Value]:
        if low.bits < 64:
            return super().divide(high, low, divisor)
        both = self._emit(
            f'call {{ i64, i64 }} asm "divq $4", "={{rax}},={{rdx}},{{rax}},{{rdx}},r,~{{flags}}"'
            f"(i64 {low.text}, i64 {high.text}, i64 {divisor.text})"
        )
        return (
            self._value(f"extractvalue {{ i64, i64 }} {both}, 0", 64),
            self._value(f"extractvalue {{ i64, i64 }} {both}, 1", 64),
        )

    def name(self, value: Value) -> Value:
        return value

    # -- parts of the instruction --------------------------------------------------------------------------

    def immediate(self, bits: int) -> Value:
        return Value(self, self._read(layout.IMMEDIATE, 64), 64).truncated(bits)

    def second(self, bits: int) -> Value:
        raise UnsupportedError

    def displacement(self) -> Value:
        return Value(self, self._read(layout.DISPLACEMENT, 64), 64)

    def effective(self) -> Value:
        if self._kind == K_ANY:
            # Cut already, and the semantics do not cut it again: see the shape's address size.
            record = self._emit("ptrtoint ptr %ip to i64")
            return Value(self, self._system("any_offset", [record]), 64)
        found = self.instruction
        total = self.slot(BASE)
        if found.index is not None:
            factor = Value(self, self._read(layout.SCALE, 8), 64) & 3
            total = total + (self.slot(INDEX) << factor)
        return total + self.displacement()

    def address(self, size: int, *, write: bool, beyond: Value | int | None = None) -> Value:
        if self._kind == K_ANY:
            record = self._emit("ptrtoint ptr %ip to i64")
            more = "0" if beyond is None else str(beyond) if isinstance(beyond, int) else beyond.text
            return Value(self, self._system("any_address", [record, more, str(size), str(int(write))]), 64)
        where = self.effective()
        if beyond is not None:
            where = where + beyond
        return where & 0xFFFFFFFF if self._kind == K_NARROW else where

    def length(self) -> Value:
        return Value(self, self._read(layout.SIZE, 8), 64) & 0x7F

    def next(self) -> Value:
        # Only those that end a block ask; they have cells.
        return Value(self, self._read(layout.CELL_OTHERWISE + layout.CELL_OFFSET, 64), 64)

    def segment(self) -> Value:
        scale = Value(self, self._read(layout.SCALE, 8), 64)
        return (scale >> layout.SEGMENT_SHIFT) & 7

    def address_mask(self) -> Value:
        size = Value(self, self._read(layout.SCALE, 8), 64) >> layout.ADDRESS_SHIFT & 3
        # Two bytes are 0 there, and four are 1.
        return self.select(size.equals(0), self.constant(0xFFFF, 64), self.constant(0xFFFFFFFF, 64))

    def field(self, name: str) -> Value:
        return Value(self, self._read(layout.REG if name == "reg" else layout.RM, 8), 64) >> 3

    # -- state ---------------------------------------------------------------------------------------------

    def _pointer(self, number: int) -> str:
        """Return where a slot is, or the register that the record names."""
        if number in _FIELDS:
            return self._emit(f"getelementptr i8, ptr %S, i64 {self._read(_FIELDS[number], 8)}")
        return self._slot_pointer(number)

    def slot(self, number: int) -> Value:
        if number == state.RES:
            return Value(self, self._result, 64)
        if number == state.COUT:
            return Value(self, self._carries, 64)
        return self._value(f"load i64, ptr {self._pointer(number)}", 64)

    def set_slot(self, number: int, value: Value) -> None:
        assert value.bits == 64, value.bits
        if number == state.RES:
            self._result = value.text
        elif number == state.COUT:
            self._carries = value.text
        else:
            self.lines.append(f"store i64 {value.text}, ptr {self._pointer(number)}")

    def register(self, number: int, bits: int, *, high: bool = False) -> Value:
        if high:
            return super().register(number, bits, high=high)
        return self._value(f"load i{bits}, ptr {self._pointer(number)}", bits)

    def set_register(self, number: int, value: Value, *, high: bool = False) -> None:
        if high:
            super().set_register(number, value, high=high)
        elif value.bits == 32:
            self.set_slot(number, value.zero_extended(64))
        else:
            self.lines.append(f"store i{value.bits} {value.text}, ptr {self._pointer(number)}")

    def byte_register(self, number: int) -> Value:
        return self.register(number, 8)

    def set_byte_register(self, number: int, value: Value) -> None:
        self.set_register(number, value)

    def xmm_half(self, number: int, half: int) -> Value:
        return self._value(f"load i64, ptr {self._vector_pointer(number, half)}", 64)

    def set_xmm_half(self, number: int, half: int, value: Value) -> None:
        self.lines.append(f"store i64 {value.text}, ptr {self._vector_pointer(number, half)}")

    def xmm(self, number: int) -> Value:
        return self._value(f"load i128, ptr {self._vector_pointer(number, 0)}, align 16", 128)

    def set_xmm(self, number: int, value: Value) -> None:
        self.lines.append(f"store i128 {value.text}, ptr {self._vector_pointer(number, 0)}, align 16")

    def _vector_pointer(self, number: int, half: int) -> str:
        """Return where half an XMM register is."""
        start = state.XMM * 8 + half * 8
        if number not in _FIELDS:
            return self._emit(f"getelementptr i8, ptr %S, i64 {start + number * 16}")
        # Registers are eight bytes apart in records.
        twice = self._emit(f"shl i64 {self._read(_FIELDS[number], 8)}, 1")
        return self._emit(f"getelementptr i8, ptr %S, i64 {self._emit(f'add i64 {twice}, {start}')}")

    def mmx(self, number: int) -> Value:
        return self._value(f"load i64, ptr {self._mmx_pointer(number)}", 64)

    def set_mmx(self, number: int, value: Value) -> None:
        place = self._mmx_pointer(number)
        self.lines.append(f"store i64 {value.text}, ptr {place}")
        above = self._emit(f"getelementptr i8, ptr {place}, i64 8")
        self.lines.append(f"store i64 65535, ptr {above}")

    def _mmx_pointer(self, number: int) -> str:
        start = state.X87 * 8
        if number not in _FIELDS:
            return self._emit(f"getelementptr i8, ptr %S, i64 {start + number * 16}")
        register = self._emit(f"and i64 {self._read(_FIELDS[number], 8)}, 56")
        twice = self._emit(f"shl i64 {register}, 1")
        return self._emit(f"getelementptr i8, ptr %S, i64 {self._emit(f'add i64 {twice}, {start}')}")

    # -- memory --------------------------------------------------------------------------------------------

    def _translated(self, address: Value, size: int, *, write: bool) -> tuple[str, str]:
        """Look an address up: the host's pointer, in the block that begins now, and the label where it is missing."""
        last = (address + (size - 1) if size > 1 else address) & ~0xFFF
        entry = ((address >> 12) & (layout.TLB_ENTRIES - 1)) << 5
        place = self._emit(f"getelementptr i8, ptr %tlb, i64 {entry.text}")
        tag = self._emit(f"load i64, ptr {self._emit(f'getelementptr i8, ptr {place}, i64 {8 if write else 0}')}")
        hit, miss = self._label(), self._label()
        same = self._emit(f"icmp eq i64 {tag}, {last.text}")
        self.lines.append(f"br i1 {same}, label %{hit}, label %{miss}, !prof !0")
        self.lines.append(f"{hit}:")
        distance = self._emit(f"load i64, ptr {self._emit(f'getelementptr i8, ptr {place}, i64 16')}")
        host = self._emit(f"add i64 {distance}, {address.text}")
        return self._emit(f"inttoptr i64 {host} to ptr"), miss

    def load(self, address: Value, bits: int) -> Value:
        if bits not in _MEMORY_BITS:
            raise UnsupportedError
        self._touches = True
        size = bits // 8
        host, miss = self._translated(address, size, write=False)
        fast = self._emit(f"load i{bits}, ptr {host}, align 1")
        hit, after = self._label(), self._label()
        self.lines += [f"br label %{hit}", f"{hit}:", f"br label %{after}", f"{miss}:"]
        found = self._slow_load(address, min(size, 8))
        if size == 16:
            upper = self._slow_load(address + 8, 8)
            low, high = self._emit(f"zext i64 {found} to i128"), self._emit(f"zext i64 {upper} to i128")
            slow = self._emit(f"or i128 {low}, {self._emit(f'shl i128 {high}, 64')}")
        else:
            slow = found if bits == 64 else self._emit(f"trunc i64 {found} to i{bits}")
        end = self._label()
        self.lines += [f"br label %{end}", f"{end}:", f"br label %{after}", f"{after}:"]
        return self._value(f"phi i{bits} [ {fast}, %{hit} ], [ {slow}, %{end} ]", bits)

    def _slow_load(self, address: Value, size: int) -> str:
        found = self._emit(
            f"call preserve_mostcc i64 @slow_load(ptr %S, ptr %ip, i64 %left, i64 {address.text}, i64 {size})"
        )
        self._check_fault()
        return found

    def store(self, address: Value, value: Value) -> None:
        self._touches = True
        size = value.bits // 8
        host, miss = self._translated(address, size, write=True)
        after = self._label()
        self.lines.append(f"store i{value.bits} {value.text}, ptr {host}, align 1")
        self.lines += [f"br label %{after}", f"{miss}:"]
        if size == 16:
            low, high = value.truncated(64).text, (value >> 64).truncated(64).text
            self.lines.append(
                f"call preserve_mostcc void @slow_store_16(ptr %S, ptr %ip, i64 %left, i64 {address.text}, i64 {low}, "
                f"i64 {high})"
            )
        else:
            wide = value.zero_extended(64).text
            self.lines.append(
                f"call preserve_mostcc void @slow_store(ptr %S, ptr %ip, i64 %left, i64 {address.text}, i64 {size}, "
                f"i64 {wide})"
            )
        self._check_fault()
        self.lines += [f"br label %{after}", f"{after}:"]

    def _check_fault(self) -> None:
        """Leave if an exception was raised."""
        raised = self._emit(f"load i64, ptr {self._slot_pointer(state.FAULT_VECTOR)}")
        self._leave_if(self._emit(f"icmp ne i64 {raised}, 0"))

    def _leave_if(self, raised: str) -> None:
        bad, well = self._label(), self._label()
        self.lines.append(f"br i1 {raised}, label %{bad}, label %{well}, !prof !1")
        self.lines.append(f"{bad}:")
        # The flags are those before the instruction.
        kept = self._result, self._carries
        self._result, self._carries = "%res", "%cout"
        self._tail("@leave_fault", "%ip")
        self._result, self._carries = kept
        self.lines.append(f"{well}:")

    def fault_if(self, condition: Value, vector: int) -> None:
        bad, well = self._label(), self._label()
        self.lines.append(f"br i1 {condition.text}, label %{bad}, label %{well}, !prof !1")
        self.lines.append(f"{bad}:")
        self.lines.append(f"store i64 {vector | 0x100}, ptr {self._slot_pointer(state.FAULT_VECTOR)}")
        self.lines.append(f"store i64 0, ptr {self._slot_pointer(state.FAULT_ERROR)}")
        kept = self._result, self._carries
        self._result, self._carries = "%res", "%cout"
        self._tail("@leave_fault", "%ip")
        self._result, self._carries = kept
        self.lines.append(f"{well}:")

    # -- system code -----------------------------------------------------------------------------------------

    def _system(self, name: str, arguments: list[str]) -> str:
        """Call a function of the dialect that does not look at RIP, EXECUTED or flags."""
        given = "".join(f", i64 {each}" for each in arguments)
        if not self._library.may_fault(name):
            return self._emit(f"call i64 @{name}(ptr %S{given})")
        pair = self._emit(f"call {{ i64, i1 }} @{name}(ptr %S{given})")
        self._leave_if(self._emit(f"extractvalue {{ i64, i1 }} {pair}, 1"))
        return self._emit(f"extractvalue {{ i64, i1 }} {pair}, 0")

    def call(self, function: Callable[..., int | None], *arguments: Value | int) -> Value:
        given = [str(each & (1 << 64) - 1) if isinstance(each, int) else each.text for each in arguments]
        name = function.__name__
        if name not in self._library.functions:
            raise UnsupportedError
        self.lines.append(
            f"call void @before_call(ptr %S, ptr %ip, i64 {self._result}, i64 {self._carries}, i64 %left)"
        )
        self._touches = True
        if self._library.may_fault(name):
            pair = self._emit(f"call {{ i64, i1 }} @{name}(ptr %S{''.join(f', i64 {each}' for each in given)})")
            bad, well = self._label(), self._label()
            raised = self._emit(f"extractvalue {{ i64, i1 }} {pair}, 1")
            self.lines.append(f"br i1 {raised}, label %{bad}, label %{well}, !prof !1")
            self.lines.append(f"{bad}:")
            # What it changed before, it meant to: the flags too.
            kept = self._result, self._carries
            self._reload_flags()
            self._tail("@leave_raised", "%ip")
            self._result, self._carries = kept
            self.lines.append(f"{well}:")
            found = self._emit(f"extractvalue {{ i64, i1 }} {pair}, 0")
        else:
            found = self._emit(f"call i64 @{name}(ptr %S{''.join(f', i64 {each}' for each in given)})")
        self._reload_flags()
        self.lines.append("call void @after_call(ptr %S, ptr %ip)")
        return Value(self, found, 64)

    def compute(self, function: Callable[..., int | None], *arguments: Value | int) -> Value:
        name = function.__name__
        if name not in self._library.functions:
            raise UnsupportedError
        self._touches = True
        given = [str(each & (1 << 64) - 1) if isinstance(each, int) else each.text for each in arguments]
        return Value(self, self._system(name, given), 64)

    def _reload_flags(self) -> None:
        self._result = self._emit(f"load i64, ptr {self._slot_pointer(state.RES)}")
        self._carries = self._emit(f"load i64, ptr {self._slot_pointer(state.COUT)}")

    def packed(self, name: str, lane_bits: int, *values: Value) -> Value:
        total = values[0].bits
        return Value(self, emit_packed(self._emit, name, lane_bits, total, [each.text for each in values]), total)

    # -- where it goes on ----------------------------------------------------------------------------------

    def _count_down(self) -> str:
        """Take the instructions of the block from the budget; return what is left."""
        number = self._read(layout.NUMBER, 8)
        through = self._emit(f"sub i64 %left, {number}")
        return self._emit(f"sub i64 {through}, 1")

    def _check_attention(self) -> str | None:
        """Return whether the block must not go on to another, where it may be so."""
        if not self._touches:
            return None
        found = self._emit(f"load i64, ptr {self._slot_pointer(state.ATTENTION)}")
        return self._emit(f"icmp ne i64 {found}, 0")

    def _go_on(self, target: str, cell: str) -> None:
        """Go on at a record, or, if that must not be, leave at the offset that is in a cell."""
        left = self._count_down()
        stop = self._emit(f"icmp slt i64 {left}, 0")
        attention = self._check_attention()
        if attention is not None:
            stop = self._emit(f"or i1 {stop}, {attention}")
        leave, well = self._label(), self._label()
        self.lines.append(f"br i1 {stop}, label %{leave}, label %{well}, !prof !1")
        self.lines.append(f"{leave}:")
        self._tail("@leave_cell", cell, left)
        self.lines.append(f"{well}:")
        self._dispatch(target, left)
        self.ended = True

    def jump(self, target: Value) -> None:
        left = self._count_down()
        stop = self._emit(f"icmp slt i64 {left}, 0")
        attention = self._check_attention()
        if attention is not None:
            stop = self._emit(f"or i1 {stop}, {attention}")
        self.lines.append(f"store i64 {target.text}, ptr {self._slot_pointer(state.RIP)}")
        leave, well, hit, miss = (self._label() for _ in range(4))
        self.lines.append(f"br i1 {stop}, label %{leave}, label %{well}, !prof !1")
        self.lines.append(f"{leave}:")
        self._tail("@look", "%ip", left)
        self.lines.append(f"{well}:")
        place = ((target ^ (target >> 12)) & (layout.JUMP_ENTRIES - 1)) << 4
        entry = self._emit(f"getelementptr i8, ptr %S, i64 {(place + layout.JUMPS * 8).text}")
        key = self._emit(f"load i64, ptr {self._slot_pointer(layout.JUMP_KEY)}")
        tag = self._emit(f"or i64 {(target & (1 << 48) - 1).text}, {self._emit(f'shl i64 {key}, 48')}")
        held = self._emit(f"load i64, ptr {entry}")
        same = self._emit(f"icmp eq i64 {held}, {tag}")
        self.lines.append(f"br i1 {same}, label %{hit}, label %{miss}, !prof !0")
        self.lines.append(f"{miss}:")
        self._tail("@go_offset", "%ip", left)
        self.lines.append(f"{hit}:")
        record = self._emit(f"load ptr, ptr {self._emit(f'getelementptr i8, ptr {entry}, i64 8')}")
        self._dispatch(record, left)
        self.ended = True

    def jump_relative(self, condition: Value | None) -> None:
        if condition is None:
            target = self._emit(f"load ptr, ptr {self._emit(f'getelementptr i8, ptr %ip, i64 {layout.TAKEN}')}")
            self._go_on(target, self._emit(f"getelementptr i8, ptr %ip, i64 {layout.CELL_TAKEN}"))
            return
        yes, no = self._label(), self._label()
        self.lines.append(f"br i1 {condition.text}, label %{yes}, label %{no}")
        for label, pointer, cell in (
            (yes, layout.TAKEN, layout.CELL_TAKEN),
            (no, layout.OTHERWISE, layout.CELL_OTHERWISE),
        ):
            self.lines.append(f"{label}:")
            target = self._emit(f"load ptr, ptr {self._emit(f'getelementptr i8, ptr %ip, i64 {pointer}')}")
            self._go_on(target, self._emit(f"getelementptr i8, ptr %ip, i64 {cell}"))

    def leave(self) -> None:
        self._tail("@look", "%ip", self._count_down())
        self.ended = True

    def leave_next(self) -> None:
        offset = self._emit(f"getelementptr i8, ptr %ip, i64 {layout.CELL_OTHERWISE + layout.CELL_OFFSET}")
        self.lines.append(f"store i64 {self._emit(f'load i64, ptr {offset}')}, ptr {self._slot_pointer(state.RIP)}")
        self.leave()
