"""Other random cases on demand: BLOCKKIT_SEED is mixed into the seed of everything that is random in these tests.

And the text of the instructions that a failed test was about.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from blockkit.cpu.isa.decode import Instruction
from blockkit.cpu.isa.disassembly import instruction_text
from tests.amount import SEED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.cpu.jit.hot import HotBlocks


class Mixed(random.Random):
    """Random numbers of a seed and SEED."""

    def __init__(self, seed: Any = None) -> None:
        super().__init__(seed if seed is None else f"{SEED}: {seed}")


@pytest.fixture(autouse=bool(SEED))
def other_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "Random", Mixed)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every block that a slice begins with becomes code at once; the list gets the number of records of each."""
    hot = pytest.importorskip("blockkit.cpu.jit.hot")

    made: list[int] = []
    copy = hot.HotBlocks._lay_out

    def noting(self: HotBlocks, pieces: list[Any], first: int, last: int) -> int | None:
        found = copy(self, pieces, first, last)
        if found is None:
            made.append(sum(piece.is_hot for piece in pieces))
        return found

    monkeypatch.setattr(hot, "_ENOUGH", 1)
    monkeypatch.setattr(hot, "_SHORTEST", 9)
    monkeypatch.setattr(hot, "_LONGEST", 100)
    monkeypatch.setattr(hot.HotBlocks, "_lay_out", noting)
    return made


def _instructions(value: object) -> Iterator[Instruction]:
    """Yield what is an instruction, or has one, as a case does."""
    if isinstance(value, Instruction):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _instructions(each)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    if call.excinfo is None or call.when != "call":
        return
    texts = [
        f"{found.mode} bits: {instruction_text(found)}"
        for entry in call.excinfo.traceback
        for value in entry.frame.f_locals.values()
        for found in _instructions(value)
    ]
    if texts:
        outcome.get_result().sections.append(("instructions", "\n".join(dict.fromkeys(texts))))
