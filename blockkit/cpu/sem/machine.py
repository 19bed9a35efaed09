"""The abstract machine: numbers of a known width, and what can be done with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.system.availability import require_mmx, require_sse, require_x87

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.isa.decode import Instruction

_TOP: Final = 1 << 63


class Value:
    """A number of ``bits`` bits that is known when the code runs; all arithmetic wraps round.

    Attributes:
        text: What the machine calls it.
        bits: Its width; 1 for a truth value.
    """

    __slots__ = ("bits", "machine", "text")

    def __init__(self, machine: Machine, text: str, bits: int) -> None:
        self.machine, self.text, self.bits = machine, text, bits

    def __add__(self, other: Value | int) -> Value:
        return self.machine.operate("add", self, self._like(other))

    def __sub__(self, other: Value | int) -> Value:
        return self.machine.operate("sub", self, self._like(other))

    def __mul__(self, other: Value | int) -> Value:
        return self.machine.operate("mul", self, self._like(other))

    def __and__(self, other: Value | int) -> Value:
        return self.machine.operate("and", self, self._like(other))

    def __or__(self, other: Value | int) -> Value:
        return self.machine.operate("or", self, self._like(other))

    def __xor__(self, other: Value | int) -> Value:
        return self.machine.operate("xor", self, self._like(other))

    def __lshift__(self, other: Value | int) -> Value:
        """Shift left; the count must be below the width."""
        return self.machine.operate("shl", self, self._like(other))

    def __rshift__(self, other: Value | int) -> Value:
        """Shift right, filling with zeros; the count must be below the width."""
        return self.machine.operate("shr", self, self._like(other))

    def __invert__(self) -> Value:
        return self.machine.operate("xor", self, self._like(-1))

    def arithmetic_shift(self, count: Value | int) -> Value:
        """Shift right, filling with the sign; the count must be below the width."""
        return self.machine.operate("sar", self, self._like(count))

    def quotient(self, other: Value) -> Value:
        """Divide without sign; the other must not be zero."""
        return self.machine.operate("div", self, other)

    def remainder(self, other: Value) -> Value:
        """What :meth:`quotient` leaves."""
        return self.machine.operate("rem", self, other)

    def equals(self, other: Value | int) -> Value:
        """Whether both are the same, as a truth value."""
        return self.machine.compare("eq", self, self._like(other))

    def below(self, other: Value | int) -> Value:
        """Whether it is less, without sign, as a truth value."""
        return self.machine.compare("ult", self, self._like(other))

    def is_negative(self) -> Value:
        """The top bit, as a truth value."""
        return self.extract(self.bits - 1)

    def extract(self, bit: int) -> Value:
        """One bit, as a truth value."""
        return (self >> bit).truncated(1) if bit else self.truncated(1)

    def truncated(self, bits: int) -> Value:
        """Its low bits."""
        return self if bits == self.bits else self.machine.resize("trunc", self, bits)

    def zero_extended(self, bits: int) -> Value:
        """As a wider number, with zeros above."""
        return self if bits == self.bits else self.machine.resize("zext", self, bits)

    def sign_extended(self, bits: int) -> Value:
        """As a wider number, with its top bit above."""
        return self if bits == self.bits else self.machine.resize("sext", self, bits)

    def top_aligned(self) -> Value:
        """Shifted so that its top bit is bit 63 of 64."""
        return self if self.bits == 64 else self.zero_extended(64) << (64 - self.bits)

    def _like(self, other: Value | int) -> Value:
        return self.machine.constant(other, self.bits) if isinstance(other, int) else other


class Machine(ABC):
    """What the semantics of one instruction are written over; see the package.

    Attributes:
        instruction: The one being described. Its form, its sizes, ``mode``, ``repeat``, ``lock``, ``segment``, whether
            it has an index register, and whether ``mod`` is 3 are constants. Its register numbers may be nothing but
            names for :meth:`register`, :meth:`slot` and the like, and its displacement, immediate and length may be
            known only when it runs: there are methods for all of them.
        mode: What :data:`blockkit.cpu.state.MODE` holds where it runs.
        place: The linear address of its memory operand, once somebody asked for it.
    """

    instruction: Instruction
    mode: int
    place: Value | None

    @property
    def flat(self) -> bool:
        """Whether ES, CS, SS and DS begin at zero and nothing is outside them."""
        return bool(self.mode & (state.MODE_FLAT | state.MODE_64))

    @property
    def stack_bits(self) -> int:
        """The size of the stack pointer."""
        return 64 if self.mode & state.MODE_64 else 32 if self.mode & state.MODE_STACK_32 else 16

    # -- parts of the instruction ------------------------------------------------------------------------

    @abstractmethod
    def immediate(self, bits: int) -> Value:
        """Return the immediate, extended to the operand size where the form says so."""

    @abstractmethod
    def second(self, bits: int) -> Value:
        """Return the second immediate: of ENTER the level, of a far pointer the selector."""

    @abstractmethod
    def displacement(self) -> Value:
        """Return the displacement, extended to 64 bits; the address of an operand that has nothing else."""

    @abstractmethod
    def effective(self) -> Value:
        """Return base, index and displacement of the memory operand, added, 64 bits."""

    def address(self, size: int, *, write: bool, beyond: Value | int | None = None) -> Value:
        """Return the linear address of the memory operand; see :func:`blockkit.cpu.sem.operands.address`."""
        from blockkit.cpu.sem.operands import linear, offset

        where = offset(self)
        if beyond is not None:
            bits = self.instruction.address_size * 8
            where = self.name(where + beyond if bits == 64 else where + beyond & (1 << bits) - 1)
        return linear(self, self.instruction.effective_segment, where, size, write=write)

    @abstractmethod
    def length(self) -> Value:
        """Return the length of the instruction in bytes, 64 bits."""

    @abstractmethod
    def next(self) -> Value:
        """Return the offset of the next instruction, 64 bits."""

    @abstractmethod
    def segment(self) -> Value:
        """Return the number of the segment of the memory operand, 64 bits."""

    def address_mask(self) -> Value:
        """Return the bits of addresses, as a number of 64 bits."""
        return self.constant((1 << self.instruction.address_size * 8) - 1, 64)

    @abstractmethod
    def field(self, name: str) -> Value:
        """Return ``reg`` or ``rm`` as a number of 64 bits."""

    @abstractmethod
    def byte_register(self, number: int) -> Value:
        """Return AL to BH by the number in the instruction, where 4 to 7 are AH to BH without a REX prefix."""

    @abstractmethod
    def set_byte_register(self, number: int, value: Value) -> None:
        """Set one."""

    # -- numbers -----------------------------------------------------------------------------------------

    @abstractmethod
    def constant(self, number: int, bits: int) -> Value:
        """Return a number that is known now."""

    @abstractmethod
    def operate(self, name: str, first: Value, second: Value) -> Value:
        """Return ``first`` op ``second``, of one width: add, sub, mul, and, or, xor, shl, shr, sar, div, rem."""

    @abstractmethod
    def compare(self, name: str, first: Value, second: Value) -> Value:
        """Return a truth value: eq, ult."""

    @abstractmethod
    def resize(self, name: str, value: Value, bits: int) -> Value:
        """Return ``value`` with another width: trunc, zext, sext."""

    @abstractmethod
    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """Return ``yes`` where the truth value holds, else ``no``; both are computed."""

    @abstractmethod
    def count_ones(self, value: Value) -> Value:
        """Return how many bits are set, as wide as ``value``."""

    @abstractmethod
    def bit_length(self, value: Value) -> Value:
        """Return the number of the highest set bit plus one, as wide as ``value``; 0 for 0."""

    def divide(self, high: Value, low: Value, divisor: Value) -> tuple[Value, Value]:
        """Divide a number of two halves, the upper of which is below the divisor: ``(quotient, remainder)``."""
        bits = low.bits
        number = self.name((high.zero_extended(2 * bits) << bits) | low.zero_extended(2 * bits))
        wide = self.name(divisor.zero_extended(2 * bits))
        quotient, remainder = self.name(number.quotient(wide)), self.name(number.remainder(wide))
        return quotient.truncated(bits), remainder.truncated(bits)

    @abstractmethod
    def name(self, value: Value) -> Value:
        """Keep ``value``, so that using it twice does not compute it twice."""

    # -- state -------------------------------------------------------------------------------------------

    @abstractmethod
    def slot(self, number: int) -> Value:
        """Return a slot of the state."""

    @abstractmethod
    def set_slot(self, number: int, value: Value) -> None:
        """Set one; nothing may fault afterwards."""

    @abstractmethod
    def load(self, address: Value, bits: int) -> Value:
        """Read memory at a linear address."""

    @abstractmethod
    def store(self, address: Value, value: Value) -> None:
        """Write memory at a linear address."""

    @abstractmethod
    def fault_if(self, condition: Value, vector: int) -> None:
        """Raise an exception, with error code 0 if it has one, leaving everything as it was before the instruction."""

    @abstractmethod
    def call(self, function: Callable[..., int | None], *arguments: Value | int) -> Value:
        """Call system code, which finds the whole state in the slots, RIP being that of this instruction.

        Returns:
            What it returns, 64 bits.
        """

    @abstractmethod
    def compute(self, function: Callable[..., int | None], *arguments: Value | int) -> Value:
        """Call system code that looks at nothing but its arguments, memory, and slots that no semantics touch.

        Those are MXCSR and the slots from OWN on. It is much faster than :meth:`call`, and may raise an exception as
        long as nothing was changed before.

        Returns:
            What it returns, 64 bits.
        """

    @abstractmethod
    def packed(self, name: str, lane_bits: int, *values: Value) -> Value:
        """Do the same with each lane of vectors; the operations are listed in :mod:`blockkit.cpu.sem.packed`."""

    def require(self, what: str) -> None:
        """Raise #UD or #NM where ``x87``, ``mmx`` or ``sse`` cannot be used; before all else."""
        missing = state.MODE_NO_SSE if what == "sse" else state.MODE_NO_X87
        if self.mode & missing:
            self.call({"x87": require_x87, "mmx": require_mmx, "sse": require_sse}[what])

    # -- where it goes on ----------------------------------------------------------------------------------

    @abstractmethod
    def jump(self, target: Value) -> None:
        """End the block at an offset in the code segment, 64 bits, which may be known only when it runs."""

    @abstractmethod
    def jump_relative(self, condition: Value | None) -> None:
        """End the block at the distance from the next instruction that is in this one, if the condition holds."""

    @abstractmethod
    def leave(self) -> None:
        """End the block where system code set RIP to."""

    @abstractmethod
    def leave_next(self) -> None:
        """End the block before the next instruction, and look what has changed."""

    # -- registers, built on slots -----------------------------------------------------------------------

    def register(self, number: int, bits: int, *, high: bool = False) -> Value:
        """Return a general register, or the part of it that has ``bits`` bits."""
        whole = self.slot(number)
        return ((whole >> 8) if high else whole).truncated(bits)

    def set_register(self, number: int, value: Value, *, high: bool = False) -> None:
        """Set one: 32 bits clear those above, 8 and 16 leave them."""
        bits = value.bits
        if bits < 32:
            shift = 8 if high else 0
            kept = self.slot(number) & ~((1 << bits) - 1 << shift)
            value = kept | (value.zero_extended(64) << shift if shift else value.zero_extended(64))
        self.set_slot(number, value.zero_extended(64))

    def xmm(self, number: int) -> Value:
        """Return an XMM register, 128 bits."""
        low, high = self.xmm_half(number, 0), self.xmm_half(number, 1)
        return (high.zero_extended(128) << 64) | low.zero_extended(128)

    def set_xmm(self, number: int, value: Value) -> None:
        """Set one."""
        value = self.name(value)
        self.set_xmm_half(number, 0, value.truncated(64))
        self.set_xmm_half(number, 1, (value >> 64).truncated(64))

    def xmm_half(self, number: int, half: int) -> Value:
        """Return the lower (0) or the upper half (1) of one."""
        return self.slot(state.XMM + 2 * number + half)

    def set_xmm_half(self, number: int, half: int, value: Value) -> None:
        """Set one."""
        self.set_slot(state.XMM + 2 * number + half, value)

    def mmx(self, number: int) -> Value:
        """Return an MMX register."""
        return self.slot(state.X87 + 2 * number)

    def set_mmx(self, number: int, value: Value) -> None:
        """Set one, and the exponent of the x87 register that it is."""
        self.set_slot(state.X87 + 2 * number, value)
        self.set_slot(state.X87 + 2 * number + 1, self.constant(0xFFFF, 64))

    # -- flags, built on slots ---------------------------------------------------------------------------

    def set_flags(self, result: Value, carries: Value) -> None:
        """Set all arithmetic flags from a result and the carries out of each of its bits."""
        bits = result.bits
        self.set_slot(state.RES, result.top_aligned())
        self.set_slot(state.COUT, carries & ~3 if bits == 64 else carries.top_aligned())
        self.set_slot(state.SHIFT, self.constant(64 - bits, 64))

    def set_carry(self, carry: Value) -> None:
        """Set CF and leave the other flags; OF is the difference to the carry below."""
        overflow = self.overflow()
        low = self.slot(state.COUT) & (1 << 62) - 1
        high = carry.zero_extended(64) << 63 | (carry ^ overflow).zero_extended(64) << 62
        self.set_slot(state.COUT, low | high)

    def set_overflow(self, overflow: Value) -> None:
        """Set OF and leave the other flags."""
        carry = self.carry()
        low = self.slot(state.COUT) & (1 << 62) - 1
        high = carry.zero_extended(64) << 63 | (carry ^ overflow).zero_extended(64) << 62
        self.set_slot(state.COUT, low | high)

    def carry(self) -> Value:
        """CF."""
        return self.slot(state.COUT).is_negative()

    def overflow(self) -> Value:
        """OF."""
        carries = self.slot(state.COUT)
        return (carries ^ carries << 1).is_negative()

    def sign(self) -> Value:
        """SF."""
        return self.slot(state.RES).is_negative() ^ self.slot(state.COUT).truncated(1)

    def zero(self) -> Value:
        """ZF."""
        return self.slot(state.RES).equals(0)

    def parity(self) -> Value:
        """PF."""
        low = (self.slot(state.RES) >> self.slot(state.SHIFT)) & 0xFF
        return ~(self.count_ones(low).truncated(1) ^ self.slot(state.COUT).extract(1))

    def condition(self, code: int) -> Value:
        """One of the sixteen conditions, in the order of their codes."""
        told = (
            self.overflow,
            self.carry,
            self.zero,
            lambda: self.carry() | self.zero(),
            self.sign,
            self.parity,
            lambda: self.sign() ^ self.overflow(),
            lambda: (self.sign() ^ self.overflow()) | self.zero(),
        )[code >> 1]()
        return ~told if code & 1 else told
