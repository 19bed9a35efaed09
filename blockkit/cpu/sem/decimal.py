"""Decimal adjustments (SDM volume 1, 7.3.4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu.system import decimal

if TYPE_CHECKING:
    from blockkit.cpu.sem.machine import Machine


def aaa(m: Machine) -> None:
    """AAA."""
    m.call(decimal.adjust_unpacked, 1)


def aas(m: Machine) -> None:
    """AAS."""
    m.call(decimal.adjust_unpacked, 0)


def daa(m: Machine) -> None:
    """DAA."""
    m.call(decimal.adjust_packed, 1)


def das(m: Machine) -> None:
    """DAS."""
    m.call(decimal.adjust_packed, 0)


def aam(m: Machine) -> None:
    """AAM."""
    m.call(decimal.adjust_after_multiply, m.immediate(8).zero_extended(64))


def aad(m: Machine) -> None:
    """AAD."""
    m.call(decimal.adjust_before_divide, m.immediate(8).zero_extended(64))
