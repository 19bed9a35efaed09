"""Native code does what portable code does, instruction for instruction."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from blockkit.cpu.portable.vcpu import PortableVcpu
from tests.cpu.programs import MODES, run_both

if TYPE_CHECKING:
    from blockkit.cpu.jit import JitAccelerator

pytestmark = [pytest.mark.guest, pytest.mark.skipif(find_spec("llvmlite") is None, reason="needs llvmlite")]

SEEDS = range(8)


@cache
def native() -> JitAccelerator:
    from blockkit.cpu.jit import JitAccelerator

    return JitAccelerator(lambda text: None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_are_the_same(seed: int, mode: int) -> None:
    assert run_both(seed, mode, (PortableVcpu, native().create_vcpu), frozenset(("HLT",))) > 0
