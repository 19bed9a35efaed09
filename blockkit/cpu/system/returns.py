"""IRET (SDM volume 2, IRET; volume 3, 6.12.1, 6.14.3 and 20.3)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, raise_fault
from blockkit.cpu.state import (
    AC,
    CPL,
    CS,
    DS,
    EFER,
    EFER_LMA,
    ES,
    FS,
    GS,
    ID,
    IF,
    IOPL,
    MODE,
    MODE_64,
    MODE_PROTECTED,
    MODE_VIRTUAL,
    NMI_BLOCKED,
    NT,
    PROTECTION,
    RF,
    RIP,
    RSP,
    SS,
    SYSTEM_FLAGS,
    TF,
    VIF,
    VIP,
    VM,
)
from blockkit.cpu.system.descriptors import mark_accessed
from blockkit.cpu.system.flags import read_flags, write_flags
from blockkit.cpu.system.segments import set_virtual_segment, update_mode
from blockkit.cpu.system.stacks import set_stack_pointer, stack_read
from blockkit.cpu.system.tasks import BY_RETURN, link_of_task, switch_task, trap_of_task
from blockkit.cpu.system.transfers import (
    check_target,
    enter_code,
    load_real_code,
    return_descriptor,
    return_outward,
)

#: What any IRET may change: CF, PF, AF, ZF, SF, TF, DF, OF, NT; with 32 bits and more RF, AC and ID too.
_USUAL: Final = 0xDD5 & ~IF | NT | TF
_WIDE: Final = RF | AC | ID


def interrupt_return(size: int, length: int) -> None:
    """IRET, IRETD and IRETQ, which unblock NMIs even if they fault (6.7.1)."""
    S[NMI_BLOCKED] = 0
    if S[MODE] & MODE_PROTECTED:
        if S[SYSTEM_FLAGS] & NT:
            if S[EFER] & EFER_LMA:
                raise_fault(PROTECTION, 0)
            trap_of_task(switch_task(link_of_task(), BY_RETURN, S[RIP] + length))
        else:
            _return_protected(size)
    else:
        _return_real(size)


def _set_flags(flags: int, allowed: int, size: int) -> None:
    """Change some of the flags."""
    allowed |= _USUAL
    if size > 2:
        allowed |= _WIDE
    else:
        allowed &= 0xFFFF
    write_flags(read_flags() & ~allowed | flags & allowed)


def _return_real(size: int) -> None:
    """In real and in virtual-8086 mode."""
    virtual = S[MODE] & MODE_VIRTUAL
    if virtual and S[SYSTEM_FLAGS] & IOPL != IOPL:
        raise_fault(PROTECTION, 0)
    offset = stack_read(0, size)
    selector = stack_read(size, size)
    flags = stack_read(2 * size, size)
    pointer = S[RSP] + 3 * size
    load_real_code(selector & 0xFFFF, offset)
    set_stack_pointer(pointer)
    _set_flags(flags, IF if virtual else IF | IOPL, size)
    update_mode()


def _return_protected(size: int) -> None:
    """In protected and in long mode."""
    offset = stack_read(0, size)
    selector = stack_read(size, size) & 0xFFFF
    flags = stack_read(2 * size, size)
    before = S[CPL]
    if flags & VM and before == 0 and size == 4 and (S[EFER] & EFER_LMA) == 0:
        _return_virtual(offset, selector, flags)
        return
    allowed = 0
    if before <= (S[SYSTEM_FLAGS] & IOPL) >> 12:
        allowed = IF
    if before == 0:
        allowed |= IOPL | VIF | VIP
    level = selector & 3
    code = return_descriptor(selector)
    check_target(code, offset)
    if S[MODE] & MODE_64 or level != before:
        pointer = stack_read(3 * size, size)
        outer = stack_read(4 * size, size) & 0xFFFF
        return_outward(selector, code, offset, outer, pointer, 0)
    else:
        code = mark_accessed(selector, code, PROTECTION)
        set_stack_pointer(S[RSP] + 3 * size)
        enter_code(selector, code, level, offset)
    _set_flags(flags, allowed, size)
    update_mode()


def _return_virtual(offset: int, selector: int, flags: int) -> None:
    """To virtual-8086 mode."""
    pointer = stack_read(12, 4)
    stack = stack_read(16, 4)
    extra = stack_read(20, 4)
    data = stack_read(24, 4)
    fourth = stack_read(28, 4)
    fifth = stack_read(32, 4)
    if offset > 0xFFFF:
        raise_fault(PROTECTION, 0)
    write_flags(flags & (0xFD5 | TF | IF | IOPL | NT | RF | VM | AC | VIF | VIP | ID))
    set_virtual_segment(CS, selector)
    set_virtual_segment(SS, stack)
    set_virtual_segment(ES, extra)
    set_virtual_segment(DS, data)
    set_virtual_segment(FS, fourth)
    set_virtual_segment(GS, fifth)
    S[RIP] = offset
    S[RSP] = pointer
    update_mode()
