"""The x87 as native code leaves, bit for bit, the state that it leaves as Python."""

from __future__ import annotations

import ctypes
import random
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import pytest

from blockkit.cpu import state
from blockkit.cpu.dialect import plain
from blockkit.cpu.system import MODULES
from blockkit.native.llvm import Library
from tests.cpu.x87_cases import a_stack

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES: Final = [name for name in MODULES if ".x87_" in name or ".softfloat_" in name or name.endswith(".flags")]
#: Functions and their arguments; those in memory get the address of sixteen bytes, an offset and a segment.
_REGISTERS: Final = [
    *(("x87_operate", (operation, target, 1 - target, 0)) for operation in (0, 1, 4, 5, 6, 7) for target in (0, 1)),
    *(("x87_compare_register", (1, signaling, 1)) for signaling in (0, 1)),
    *(("x87_take_remainder", (nearest,)) for nearest in (0, 1)),
    *((f"x87_{name}", ()) for name in ("square_root", "to_nearest", "scale_top", "extract", "raise_two")),
    *(("x87_of_two", (function,)) for function in range(3)),
    *(("x87_of_angle", (what,)) for what in (0, 1)),
    *(("x87_two_of_angle", (what,)) for what in (0, 2)),
]
_MEMORY: Final = [
    *(("x87_operate_memory", (operation, kind)) for operation in (0, 2, 6) for kind in range(4)),
    *(("x87_push_operand", (kind,)) for kind in range(5)),
    *(("x87_store_operand", (kind, 1, truncate)) for kind in range(5) for truncate in (0, 1)),
    *((f"x87_{name}", ()) for name in ("push_whole", "push_decimal", "store_whole", "store_decimal")),
]


@pytest.fixture(scope="module")
def engine() -> Any:
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    memory = import_module("tests.cpu.flat_memory")
    text = Library([*(import_module(name) for name in _NAMES), memory], (state.FAULT_VECTOR, state.FAULT_ERROR)).lower()
    text = text.replace("define internal", "define") + '\n!1 = !{!"branch_weights", i32 1, i32 2000}\n'
    module = llvm.parse_assembly(text)
    module.verify()
    return llvm.create_mcjit_compiler(module, llvm.Target.from_default_triple().create_target_machine(opt=1))


class _Both:
    """The same state twice, and the same memory."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.slots = [0] * state.SLOTS
        self.native = (ctypes.c_uint64 * state.SLOTS)()
        self.memory = (ctypes.c_ubyte * 16)()
        self.place = ctypes.addressof(self.memory)
        environment: dict[str, Callable[..., int | None]] = {
            "load": self._load,
            "store": self._store,
            "load_system": lambda address, size: 0xD8,
            "probe_store": lambda address, size: None,
        }
        self.functions = plain.functions([import_module(name) for name in _NAMES], self.slots, environment)

    def _load(self, address: int, size: int) -> int:
        at = address - self.place
        return int.from_bytes(bytes(self.memory[at : at + size]), "little")

    def _store(self, address: int, size: int, value: int) -> None:
        at = address - self.place
        self.memory[at : at + size] = list((value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def agree(self, name: str, arguments: tuple[int, ...], chance: random.Random) -> None:
        given = a_stack(chance)
        # Where an opcode is looked for: in the memory that there is.
        self.slots[:] = [0] * state.SLOTS
        state.set_rflags(self.slots, given.flags)
        self.slots[state.RIP], self.slots[state.MODE] = self.place, state.MODE_64
        self.slots[state.FCW], self.slots[state.FSW] = given.control, given.status
        self.slots[state.FTW] = sum(3 << 2 * n for n in range(8) if given.empty >> n & 1)
        for index, (word, mantissa) in enumerate(given.registers):
            self.slots[state.X87 + 2 * index : state.X87 + 2 * index + 2] = mantissa, word
        self.native[:] = self.slots
        found = []
        for call in (lambda: self.functions[name](*arguments), lambda: self._call(name, arguments)):
            self.memory[:] = list(given.operand)
            call()
            found.append(bytes(self.memory))
        assert found[0] == found[1], (name, arguments, given)
        mine, theirs = list(self.slots), list(self.native)
        mine[state.FOP] = theirs[state.FOP] = 0
        assert mine == theirs, (name, arguments, given)

    def _call(self, name: str, arguments: tuple[int, ...]) -> None:
        words = [ctypes.c_uint64] * len(arguments)
        place = self.engine.get_function_address(name)
        ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, *words)(place)(ctypes.addressof(self.native), *arguments)


@pytest.mark.guest
def test_operations_on_registers_are_the_same(engine: Any) -> None:
    both, chance = _Both(engine), random.Random(1)
    for name, arguments in _REGISTERS:
        for _ in range(100):
            both.agree(name, arguments, chance)


@pytest.mark.guest
def test_operations_on_memory_are_the_same(engine: Any) -> None:
    both, chance = _Both(engine), random.Random(2)
    for name, arguments in _MEMORY:
        for _ in range(60):
            both.agree(name, (*arguments, both.place, 0, 3), chance)
