"""Every form of every instruction does the same as Python and as native code, in every mode and level.

Nothing is left out of the comparison, and there is no table of undefined flags here: what the SDM leaves undefined is
the same too, since runs can be repeated on either. Three ways are tried: the instruction alone; in a block, which ends
with a jump to itself or to the instruction; and in a block that has become hot.
"""

from __future__ import annotations

import random
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import pytest

from blockkit.cpu import state
from blockkit.cpu.isa.decode import decode
from blockkit.cpu.isa.forms import BASELINE, Form, forms
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.portable.vcpu import PortableVcpu
from blockkit.cpu.sem.table import semantics
from tests.amount import TIMES
from tests.cpu.descriptors import CODE, STACK
from tests.cpu.machine import Board
from tests.cpu.programs import UNTOLD, answer
from tests.cpu.systems import NAMES, READ_ONLY, RESTORED, SYSTEMS, Case, System, case_of
from tests.cpu.test_native import native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cpu.machine import Bus

pytestmark = [pytest.mark.guest, pytest.mark.skipif(find_spec("llvmlite") is None, reason="needs llvmlite")]

#: Cases of each form in each system; more, up to MOST, until one raises no exception.
CASES: Final = 2 * TIMES
MOST: Final = 80 * TIMES
#: How many instructions are executed at a time: one, as many as it takes to run blocks, and until they are hot.
_WAYS: Final = ((1,), (40,), (100, 100, 100))

#: Those that raise an exception whatever they start from.
_NEVER: Final = frozenset(("RDPMC",))
_FOR_THE_SYSTEM: Final = frozenset(
    (
        *("CLAC", "STAC", "CLTS", "HLT", "INVD", "WBINVD", "INVLPG", "LGDT", "LIDT", "LLDT", "LTR", "LMSW", "RDMSR"),
        *("WRMSR", "SWAPGS", "SYSEXIT", "SYSRET"),
    )
)
_OF_PROTECTED_MODE: Final = frozenset("ARPL LAR LSL LLDT LTR SLDT STR VERR VERW".split())
#: Those that cannot be done in a system.
_REFUSED: Final = {
    "real 16": _OF_PROTECTED_MODE | {"SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT"},
    "virtual 16": _OF_PROTECTED_MODE | _FOR_THE_SYSTEM | {"SYSCALL"},
    **dict.fromkeys(("system 16", "system 32", "flat 32"), frozenset(("SYSCALL", "SYSRET"))),
    **dict.fromkeys(("user 32", "compatible 32"), _FOR_THE_SYSTEM | {"SYSCALL"}),
    "long 64": frozenset[str](),
    "user 64": _FOR_THE_SYSTEM,
}


class Noting(PortableVcpu):
    """A processor that tells what exceptions it delivered.

    Attributes:
        vectors: Theirs.
    """

    def __init__(self, bus: Bus) -> None:
        self.vectors: list[int] = []
        super().__init__(bus)

    def _deliver(self, vector: int, error: int, kind: int) -> None:
        self.vectors.append(vector)
        super()._deliver(vector, error, kind)


class Pair:
    """The same system twice: as Python, and as native code."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.boards = [Board(Noting), Board(native().create_vcpu)]
        for board in self.boards:
            board.bus.answer = answer
            board.write(0, system.memory)
        portable = self.boards[0].cpu
        assert isinstance(portable, Noting)
        self.portable = portable

    def compare(self, case: Case, budgets: tuple[int, ...]) -> None:
        """Run a case on both."""
        what: object = None
        self.portable.vectors.clear()
        for board in self.boards:
            for begin, end in RESTORED:
                board.write(begin, self.system.memory[begin:end])
            for address, data in case.memory.items():
                board.write(address, data)
            board.bus.accesses.clear()
            board.cpu.set_state(case.slots)
        for budget in budgets:
            stops = [board.cpu.run(budget) for board in self.boards]
            states = [board.cpu.get_state() for board in self.boards]
            wrong = {
                number: (hex(a), hex(b))
                for number, (a, b) in enumerate(zip(*states, strict=True))
                if a != b and number not in UNTOLD
            }
            what = (self.system.name, case.code.hex(), self.portable.vectors)
            assert not wrong, (what, wrong)
            assert stops[0] is stops[1], what
        seen = [board.bus.accesses for board in self.boards]
        assert seen[0] == seen[1], what
        rams = [bytes(board.bus.ram) for board in self.boards]
        assert rams[0] == rams[1], (what, list(_differences(*rams)))


def _differences(mine: bytes, theirs: bytes) -> Iterator[str]:
    for at, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        if a != b:
            yield f"{at:#x}: {a:#x} {b:#x}"


@cache
def _pair(name: str) -> Pair:
    return Pair(SYSTEMS[name])


def _cannot(form: Form, system: System) -> bool:
    """Tell whether an instruction always raises an exception."""
    if any(operand.where in (Where.CONTROL, Where.DEBUG) for operand in form.operands):
        return system.level > 0
    return form.names[0] in _NEVER | _REFUSED[system.name]


#: Ranges of opcodes, about as many forms in each.
OPCODES: Final = (
    *((0, 0x40), (0x40, 0x80), (0x80, 0xD8), (0xD8, 0xDC), (0xDC, 0xE0), (0xE0, 0x100), (0xF00, 0xF40)),
    *((0xF40, 0xF80), (0xF80, 0xFC8), (0xFC8, 0x1000), (0xF3800, 0xF3B00)),
)


def _forms(system: System, opcodes: tuple[int, int]) -> Iterator[Form]:
    """Yield the forms of some opcodes that there are in a mode."""
    first, last = opcodes
    is_64 = system.world.mode == 64
    for form in forms():
        if not first <= form.opcode < last or (form.feature and form.feature not in BASELINE):
            continue
        if ("i64" if is_64 else "o64") in form.flags:
            continue
        # Only R8 is exchanged with RAX like this; without REX.B it is NOP.
        if form.opcode != 0x90 or not form.operands or is_64:
            yield form


def test_the_ranges_have_every_form() -> None:
    for form in forms():
        assert sum(first <= form.opcode < last for first, last in OPCODES) == 1, form


@pytest.mark.parametrize("opcodes", OPCODES, ids=lambda each: f"{each[0]:02X}")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("eager")
def test_every_form_is_the_same(name: str, opcodes: tuple[int, int]) -> None:
    rng = random.Random(f"{name} {opcodes}")
    pair = _pair(name)
    for form in _forms(pair.system, opcodes):
        done = completed = 0
        for _ in range(MOST * 20):
            case = case_of(rng, form, pair.system)
            if case is None:
                continue
            pair.compare(case, rng.choice(_WAYS))
            completed += not pair.portable.vectors
            done += 1
            cannot = semantics(case.found) is None or _cannot(form, pair.system)
            if done >= CASES and (completed or cannot or done == MOST):
                break
        assert completed or cannot, form


@pytest.mark.parametrize("zf", [0, state.ZF])
@pytest.mark.parametrize("budget", [1, 40])
def test_arpl_that_cannot_write_leaves_the_flag(zf: int, budget: int) -> None:
    pair = _pair("user 32")
    slots = list(pair.system.slots)
    # ARPL [EAX], CX: to a page that cannot be written; another RPL would set ZF, the same one would clear it.
    for rpl in (0, 3):
        slots[state.RAX], slots[state.RCX], slots[state.RIP], slots[state.RSP] = READ_ONLY, rpl, CODE, STACK
        state.set_rflags(slots, zf)
        code = bytes.fromhex("6308")
        pair.compare(Case(decode(code, 32), code, slots, {CODE: code, READ_ONLY: b"\1\0"}), (budget,))
        assert pair.portable.vectors == [state.PAGE_FAULT]
        assert state.rflags(pair.portable.get_state()) & state.ZF == zf
