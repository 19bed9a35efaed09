"""The processor's state: one table of 64-bit slots, which every interpretation and every test reads.

Slot ``n`` lies at byte ``8 * n`` where the state is memory, and at index ``n`` where it is a list.

The arithmetic flags are kept as two numbers from which each is told when somebody asks. ``RES`` is the last result and
``COUT`` the carries out of each of its bits, both shifted so that the operand's top bit is bit 63; ``SHIFT`` says how
far. Then CF is bit 63 of COUT, OF bit 63 xor bit 62, SF bit 63 of RES, ZF whether RES is zero, PF the parity of the
operand's low byte and AF the carry out of its bit 3. Bits 0 and 1 of COUT, which say nothing of their own, turn SF and
PF round: so there is a pair of numbers for each of the 64 combinations.
"""

from __future__ import annotations

from typing import Final

#: General registers, in the order of their numbers.
REGISTERS: Final = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)

#: Offset in the code segment. While system code runs, that of the instruction it runs for.
RIP: Final = 16
RES: Final = 17
COUT: Final = 18
SHIFT: Final = 19
#: The other flags, at their places in RFLAGS; the arithmetic ones are zero here.
SYSTEM_FLAGS: Final = 20
#: Always zero: the base or index register of an address that has none.
ZERO: Final = 21

#: Segment registers, in the order of their numbers, then the two of the system.
ES, CS, SS, DS, FS, GS, LDTR, TR = range(8)
#: Of each: the selector; the linear base; the limit in bytes; and bits 8 to 23 of the descriptor's second half, so
#: type in bits 0 to 3, S 4, DPL 5 and 6, P 7, AVL 12, L 13, D/B 14, G 15. Zero attributes: a null selector.
SELECTORS: Final = 24
SEGMENT_BASES: Final = 32
SEGMENT_LIMITS: Final = 40
SEGMENT_ATTRIBUTES: Final = 48
GDT_BASE, GDT_LIMIT, IDT_BASE, IDT_LIMIT = 56, 57, 58, 59

CR0, CR2, CR3, CR4, CR8, XCR0, EFER = 60, 61, 62, 63, 64, 65, 66
#: The privilege level: that of CS, but 3 in virtual-8086 mode and 0 in real mode.
CPL: Final = 67
#: DR0 to DR7.
DEBUG: Final = 68

#: Model-specific registers that are more than storage.
STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE = 76, 77, 78, 79, 80
SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 81, 82, 83
PAT, TSC_OFFSET, TSC_AUX, APIC_BASE, MISC_ENABLE = 84, 85, 86, 87, 88

#: How code is to be translated and addresses are to be made, from CS, SS, CR0, EFER and the flat segments: bits below.
MODE: Final = 89
#: Instructions that have run to their ends. While one runs, those before it.
EXECUTED: Final = 90
#: Not zero: the processor does not go on by itself; see the constants below.
HALT: Final = 91
#: Not zero: no interrupt is taken before the next instruction (after STI, MOV SS and POP SS): 1, or 2 for debug
#: exceptions too.
SHADOW: Final = 92
#: The exception that is raised, where there are no Python exceptions: its vector and its error code.
FAULT_VECTOR, FAULT_ERROR = 93, 94
#: Not zero: the block ends after the instruction that runs.
ATTENTION: Final = 95

#: x87: mantissa and sign-with-exponent of R0 to R7, two slots each; the control, status (TOP in bits 11 to 13) and tag
#: words (two bits for each register, 3 for empty); the last instruction's opcode, its address, and its operand's.
X87: Final = 96
FCW, FSW, FTW, FOP, FIP, FDP, FCS, FDS = 112, 113, 114, 115, 116, 117, 118, 119
MXCSR: Final = 120
#: XMM0 to XMM15, two slots each, the lower half first. MMX registers are the mantissas of X87.
XMM: Final = 128
#: Room of an interpretation; nothing of the processor.
OWN: Final = 160
#: Where RDRAND is among its numbers; zero, before the first one, for a beginning of the processor's own. Not KVM's.
RANDOM: Final = 168
#: Not zero: NMIs wait for an IRET.
NMI_BLOCKED: Final = 179
#: The four entries of PAE paging, read when CR3 is written.
PDPTES: Final = 180
#: What CPUID tells otherwise than the model, an exclusive or for each pair of registers: of leaf 1 ECX and EDX, of
#: leaf 7 EBX and ECX, of leaf 80000001h ECX and EDX, the first one in the lower half. Not KVM's.
CPUID_CHANGES: Final = 184

SLOTS: Final = 192

#: Bits of MODE: the default size of code and of the stack pointer; whether segments need a look.
MODE_16, MODE_32, MODE_64 = 0, 1, 2
MODE_CODE: Final = 3
MODE_STACK_32: Final = 4
#: ES, SS and DS begin at zero, and nothing is outside them; CS begins at zero, has 4 GiB, and can be read.
MODE_FLAT: Final = 8
#: Protected mode, without virtual-8086 mode.
MODE_PROTECTED: Final = 16
MODE_VIRTUAL: Final = 32
#: Single steps: TF.
MODE_TRAP: Final = 64
#: There are breakpoints: DR7.
MODE_BREAK: Final = 512
#: The x87 and MMX cannot be used (CR0.EM or CR0.TS); SSE cannot (the same, or CR4.OSFXSR is clear).
MODE_NO_X87, MODE_NO_SSE = 128, 256

#: HALT: a HLT, which an interrupt ends; a triple fault.
HALTED, SHUTDOWN = 1, 2

CF, PF, AF, ZF, SF, TF, IF, DF, OF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 11
IOPL: Final = 3 << 12
NT, RF, VM, AC, VIF, VIP, ID = 1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21
ARITHMETIC: Final = CF | PF | AF | ZF | SF | OF
#: Bit 1 of RFLAGS is always set.
ALWAYS: Final = 2

CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_ET, CR0_NE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
CR0_WP, CR0_AM, CR0_NW, CR0_CD, CR0_PG = 1 << 16, 1 << 18, 1 << 29, 1 << 30, 1 << 31
CR4_VME, CR4_PVI, CR4_TSD, CR4_DE, CR4_PSE, CR4_PAE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
CR4_MCE, CR4_PGE, CR4_PCE, CR4_OSFXSR, CR4_OSXMMEXCPT = 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 10
CR4_UMIP, CR4_FSGSBASE, CR4_PCIDE, CR4_OSXSAVE = 1 << 11, 1 << 16, 1 << 17, 1 << 18
CR4_SMEP, CR4_SMAP = 1 << 20, 1 << 21
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11

#: Exceptions.
DIVIDE_ERROR, DEBUG_EXCEPTION, NMI, BREAKPOINT, OVERFLOW, BOUND_RANGE, UNDEFINED, NO_MATH = range(8)
DOUBLE_FAULT, INVALID_TSS, NOT_PRESENT, STACK_FAULT, PROTECTION, PAGE_FAULT = 8, 10, 11, 12, 13, 14
MATH_FAULT, ALIGNMENT, MACHINE_CHECK, SIMD_FAULT = 16, 17, 18, 19
#: Those that push an error code.
WITH_ERROR: Final = frozenset((DOUBLE_FAULT, INVALID_TSS, NOT_PRESENT, STACK_FAULT, PROTECTION, PAGE_FAULT, ALIGNMENT))

_TOP: Final = 1 << 63
_NEGATE_SIGN, _NEGATE_PARITY = 1, 2


def new_state() -> list[int]:
    """Return a state in which everything is zero."""
    state = [0] * SLOTS
    set_rflags(state, ALWAYS)
    return state


def rflags(state: list[int]) -> int:
    """Return RFLAGS."""
    result, carries, shift = state[RES], state[COUT], state[SHIFT]
    flags = state[SYSTEM_FLAGS] | ALWAYS
    if carries & _TOP:
        flags |= CF
    if (carries ^ carries << 1) & _TOP:
        flags |= OF
    if not result:
        flags |= ZF
    if (result >> 63 ^ carries) & 1:
        flags |= SF
    if ((result >> shift & 0xFF).bit_count() ^ carries >> 1 ^ 1) & 1:
        flags |= PF
    if carries >> shift + 3 & 1:
        flags |= AF
    return flags


def set_rflags(state: list[int], flags: int) -> None:
    """Set RFLAGS; bits that are no flag are kept like the others."""
    state[SYSTEM_FLAGS] = flags & ~ARITHMETIC | ALWAYS
    state[RES], state[COUT] = pack_flags(flags)
    state[SHIFT] = 0


def pack_flags(flags: int) -> tuple[int, int]:
    """Return RES and COUT, with SHIFT 0, that stand for the arithmetic flags in ``flags``."""
    # A result of 0 has even parity and no sign; one of 1 is neither zero nor negative, with odd parity.
    result = 0 if flags & ZF else 1
    carries = _TOP if flags & CF else 0
    if bool(flags & OF) != bool(flags & CF):
        carries |= _TOP >> 1
    if flags & AF:
        carries |= 8
    if flags & SF:
        carries |= _NEGATE_SIGN
    if bool(flags & PF) != (result == 0):
        carries |= _NEGATE_PARITY
    return result, carries
