"""Whether the x87, MMX and SSE can be used (SDM volume 3, tables 2-3, 12-1 and 13-1)."""

from __future__ import annotations

from blockkit.cpu.dialect import S, raise_fault
from blockkit.cpu.state import CR0, CR0_EM, CR0_TS, CR4, CR4_OSFXSR, NO_MATH, UNDEFINED


def require_x87() -> None:
    """Raise #NM if CR0 says so."""
    if S[CR0] & (CR0_EM | CR0_TS):
        raise_fault(NO_MATH, 0)


def require_mmx() -> None:
    """Raise #UD where it is emulated, #NM after a task switch."""
    if S[CR0] & CR0_EM:
        raise_fault(UNDEFINED, 0)
    if S[CR0] & CR0_TS:
        raise_fault(NO_MATH, 0)


def require_sse() -> None:
    """Raise #UD where the system does not save it, #NM after a task switch."""
    if S[CR0] & CR0_EM or (S[CR4] & CR4_OSFXSR) == 0:
        raise_fault(UNDEFINED, 0)
    if S[CR0] & CR0_TS:
        raise_fault(NO_MATH, 0)
