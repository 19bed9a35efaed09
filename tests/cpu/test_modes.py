"""Integer instructions in every mode, with every kind of address and prefix, do what Unicorn does."""

from __future__ import annotations

import random
from typing import Final

import pytest

from blockkit.cpu import state
from blockkit.cpu.isa.decode import RIP
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.table import ENDS
from tests.amount import TIMES
from tests.cpu.cases import DATA, Case, World, case_in, described, result_is_undefined, undefined
from tests.cpu.worlds import WORLDS, both

CASES: Final = 14 * TIMES


#: What Unicorn's processor does not have.
UNKNOWN: Final = {"ADCX", "ADOX"}


def wrong_in_unicorn(made: Case, world: World) -> bool:
    """Tell whether Unicorn is known not to do what the SDM says."""
    found = made.found
    return (
        # It does not look at the types of segments: here that code cannot be written.
        (found.segment == state.CS and world.name.startswith("code") and world.mode != 64)
        # It takes 66 for 16 bits also where those are the default.
        or (found.name in ("MOVBE", "POPCNT") and (found.mode == 16 or b"\x66" in made.code[:4]))
        # It is AMD's processor, whose near jumps have 16 bits with 66.
        or (found.mode == 64 and found.name in ENDS and b"\x66" in made.code[:4])
        # It forgets the immediate when it counts from RIP.
        or (found.name in ("SHLD", "SHRD") and found.base == RIP and found.form.operands[2].where is Where.IMMEDIATE)
        # It clears the upper half of RAX also where nothing is written to EAX.
        or (found.name == "CMPXCHG" and found.mode == 64 and found.operand_size == 4)
        # It leaves the flags of something else.
        or (found.name == "NEG" and found.lock)
        # It takes the bytes that RET drops for a number with a sign.
        or (found.name == "RET" and bool(found.form.operands) and found.immediate >= 0x8000)
        # It takes REX.R for a part of the opcode.
        or (found.form.opcode in (0xC6, 0xC7) and bool(found.rex & 4))
        # It does not know the second opcode of TEST, nor PREFETCH of a register.
        or (found.name == "TEST" and found.form.reg == 1)
        or (found.form.opcode in (0x0F0D, 0x0F18) and found.mod == 3)
    )


@pytest.mark.parametrize(
    ("world", "name"),
    [(world.name, name) for world in WORLDS.values() for name in sorted(described(world.mode).keys() - UNKNOWN)],
)
def test_it_does_what_unicorn_does(world: str, name: str) -> None:
    rng = random.Random(world + name)
    ours, theirs = both(world)
    forms = described(WORLDS[world].mode)[name]
    done = faults = 0
    for _ in range(CASES * 20):
        made = case_in(rng, rng.choice(forms), WORLDS[world])
        if (
            made is None
            or made.found.name != name
            or result_is_undefined(made)
            or wrong_in_unicorn(made, WORLDS[world])
        ):
            continue
        data = rng.randbytes(DATA)
        cpu = ours.run(made, data)
        expected = theirs.run(made, data)
        what = (made.code.hex(), [hex(value) for value in made.registers], cpu.fault)
        if expected is None:
            assert cpu.fault is not None, what
            assert cpu.fault.vector == state.DIVIDE_ERROR, what
            assert cpu.registers[: len(made.registers)] == made.registers
            faults += 1
            continue
        assert cpu.fault is None, what
        registers, rip, flags, after = expected
        if name in ("BSF", "BSR") and cpu.flags & state.ZF:
            continue
        assert [hex(value) for value in cpu.registers[: len(registers)]] == [hex(value) for value in registers], what
        assert hex(cpu.slots[state.RIP]) == hex(rip), what
        wrong = (cpu.flags ^ flags) & (state.ARITHMETIC | state.DF) & ~undefined(made)
        assert not wrong, (what, hex(wrong))
        assert ours.data() == after, what
        done += 1
        if done + faults >= CASES:
            break
    assert done >= CASES // 3 or (name in ("MOVBE", "POPCNT") and WORLDS[world].mode == 16)
