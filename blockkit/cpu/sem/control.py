"""Instructions for the system: control, debug and model-specific registers, caches, and the counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.operands import address, get, is_memory, put, size_of
from blockkit.cpu.system import control, identity, registers, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine


def move(m: Machine) -> None:
    """MOV to and from a control or debug register."""
    operands = m.instruction.form.operands
    if operands[0].where in (Where.CONTROL, Where.DEBUG):
        write = control.write_control if operands[0].where is Where.CONTROL else control.write_debug
        m.call(write, m.field("reg"), get(m, 1).zero_extended(64))
        m.leave_next()
        return
    read = control.read_control if operands[1].where is Where.CONTROL else control.read_debug
    put(m, 0, m.call(read, m.field("reg")).truncated(size_of(m, 0)))


def lmsw(m: Machine) -> None:
    """LMSW."""
    m.call(tables.require_level_0)
    m.call(control.load_machine_status, get(m, 0).truncated(16).zero_extended(64))
    m.leave_next()


def smsw(m: Machine) -> None:
    """SMSW."""
    status = m.call(control.machine_status)
    put(m, 0, status.truncated(16 if is_memory(m, 0) else m.instruction.operand_size * 8))


def clts(m: Machine) -> None:
    """CLTS."""
    m.call(control.clear_task_switched)
    m.leave_next()


def hlt(m: Machine) -> None:
    """HLT."""
    m.call(control.halt)
    m.leave_next()


def invlpg(m: Machine) -> None:
    """INVLPG: the code that follows may be another."""
    m.call(tables.require_level_0)
    m.call(control.invalidate_page, address(m))
    m.leave_next()


def privileged_nop(m: Machine) -> None:
    """INVD and WBINVD: there are no caches."""
    m.call(tables.require_level_0)


def clflush(m: Machine) -> None:
    """CLFLUSH, which faults as reading a byte does."""
    m.name(m.load(address(m), 8))


def allow_user_pages(allowed: int) -> Callable[[Machine], None]:
    """STAC and CLAC: loads and stores have other rights from the next block on."""

    def allow(m: Machine) -> None:
        m.call(control.allow_user_pages, allowed)
        m.leave_next()

    return allow


def _without_operands(function: Callable[[], None]) -> Callable[[Machine], None]:

    def run(m: Machine) -> None:
        m.call(function)

    return run


#: By name, those whose operands are registers that the opcode implies.
WITHOUT_OPERANDS: Final = {
    "RDMSR": _without_operands(registers.read_register),
    "RDTSC": _without_operands(registers.read_time),
    "RDTSCP": _without_operands(registers.read_time_and_processor),
    "RDPMC": _without_operands(registers.read_performance),
    "CPUID": _without_operands(identity.identify),
    "SWAPGS": _without_operands(control.swap_base),
}


def wrmsr(m: Machine) -> None:
    """WRMSR."""
    m.call(registers.write_register)
    m.leave_next()


def read_base(register: int) -> Callable[[Machine], None]:
    """RDFSBASE and RDGSBASE."""

    def read(m: Machine) -> None:
        m.call(control.require_base_instructions)
        put(m, 0, m.slot(state.SEGMENT_BASES + register).truncated(size_of(m, 0)))

    return read


def write_base(register: int) -> Callable[[Machine], None]:
    """WRFSBASE and WRGSBASE."""

    def write(m: Machine) -> None:
        m.call(control.write_base, register, get(m, 0).zero_extended(64))

    return write


def rdrand(m: Machine) -> None:
    """RDRAND: there always is a number, so CF is set and the other flags are cleared."""
    put(m, 0, m.compute(registers.next_random).truncated(m.instruction.operand_size * 8))
    m.set_slot(state.RES, m.constant(1, 64))
    m.set_slot(state.COUT, m.constant(3 << 62, 64))
    m.set_slot(state.SHIFT, m.constant(0, 64))
