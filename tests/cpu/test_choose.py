"""Which of the ways to run a processor is chosen, and what is said of it."""

from __future__ import annotations

import time

import pytest

from blockkit.cpu import choose as choosing
from blockkit.cpu.kvm import device
from blockkit.cpu.kvm.probe import WORTHWHILE, Probe, judge, probe
from blockkit.errors import BlockkitError, EmulationError, OptionError
from tests.cpu.kernel import needs_kvm

MILLISECOND = 1_000_000


def test_a_kernel_that_emulates_is_passed_over() -> None:
    assert judge(WORTHWHILE // 100, 10_000_000)[::2] == (True, WORTHWHILE)
    assert judge(WORTHWHILE // 100, 10_100_000).usable is False
    assert not judge(3_000, 3_000_000).usable
    assert "1.0 million instructions a second" in judge(3_000, 3_000_000).why
    assert judge(3_000_000, 3_000_000).usable


@needs_kvm
def test_probing_is_quick_and_says_how_fast_it_is() -> None:
    probe()
    best, fastest = 1000 * MILLISECOND, 0
    for _ in range(5):
        before = time.thread_time_ns()
        found = probe()
        best = min(best, time.thread_time_ns() - before)
        assert found.usable == (found.rate >= WORTHWHILE)
        fastest = max(fastest, found.rate)
    assert fastest > 0
    assert best < 20 * MILLISECOND


def test_probing_survives_what_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.platform, "machine", lambda: "s390x")
    assert probe() == Probe(False, "kvm: the host is Linux on s390x, expected Linux on x86_64")

    def fail() -> str:
        raise OSError("no such thing")

    monkeypatch.setattr(device.platform, "machine", fail)
    assert probe() == Probe(False, "kvm: the host has no such interface: no such thing")


def pretend(monkeypatch: pytest.MonkeyPatch, found: Probe, packages: set[str], *, kept: bool = False) -> None:
    monkeypatch.setattr("blockkit.cpu.jit.build.is_kept", lambda: kept)
    monkeypatch.setattr("blockkit.cpu.kvm.probe.probe", lambda: found)
    monkeypatch.setattr(choosing, "find_spec", lambda name: object() if name in packages else None)


def test_the_fastest_is_chosen_and_why_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Probe(True, "kvm: 900.0 million instructions a second"), set())
    accelerator, why = choosing.choose()
    assert (accelerator.name, why) == ("kvm", "kvm: 900.0 million instructions a second")


def test_without_anything_better_python_is_chosen_and_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Probe(False, "kvm: /dev/kvm does not exist"), set())
    accelerator, why = choosing.choose("auto")
    assert accelerator.name == "python"
    assert why == (
        "python: the fastest that can be used here; kvm: /dev/kvm does not exist; "
        "jit: llvmlite is not installed; for a hundredfold speed: pip install 'blockkit[jit]'"
    )


def test_the_translator_is_preferred_to_a_kernel_that_emulates(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Probe(False, "kvm: the kernel emulates"), {"llvmlite"})
    monkeypatch.setitem(choosing.ACCELERATORS, "jit", ("types", "SimpleNamespace"))
    _accelerator, why = choosing.choose()
    assert why == "jit: the fastest that can be used here; kvm: the kernel emulates"


def test_what_was_compiled_once_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Probe(False, "kvm: the kernel emulates"), set(), kept=True)
    accelerator, why = choosing.choose()
    assert (accelerator.name, why) == ("jit", "jit: the fastest that can be used here; kvm: the kernel emulates")


def test_what_is_asked_for_is_chosen_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Probe(False, "kvm: the kernel emulates"), set())
    accelerator, why = choosing.choose("kvm")
    assert (accelerator.name, why) == ("kvm", "kvm: as asked")
    with pytest.raises(EmulationError, match="jit: llvmlite is not installed; for a hundredfold speed"):
        choosing.choose("jit")
    monkeypatch.setitem(choosing.ACCELERATORS, "python", ("blockkit.cpu.none", "None"))
    with pytest.raises(EmulationError, match="python: cannot be loaded"):
        choosing.choose("python")
    with pytest.raises(EmulationError, match=r"^no accelerator .*: kvm: the kernel emulates; jit: .*; python: "):
        choosing.choose()


@pytest.mark.parametrize(
    ("name", "end"),
    [("kmv", "; did you mean 'kvm'"), ("pyhton", "; did you mean 'python'"), ("x", "; known are auto, ")],
)
def test_an_unknown_accelerator_is_told_with_the_near_miss(name: str, end: str) -> None:
    with pytest.raises(OptionError, match=f"there is no accelerator '{name}'{end}") as said:
        choosing.choose(name)
    assert isinstance(said.value, BlockkitError)
