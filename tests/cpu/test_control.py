"""Control, debug and model-specific registers hold what the SDM lets them hold, and do what it says."""

from __future__ import annotations

import struct
from typing import Final

import pytest

from blockkit.cpu import state
from blockkit.cpu.accelerator import Stop
from tests.cpu.machine import CODE_64, PAGE, Board, Observed, long_mode, protected_mode, real_mode

CODE: Final = 0x1000
_USER_CODE, _USER_DATA = 0xC0FB, 0xC0F3


def start(board: Board, slots: list[int], code: str, flags: int = state.ALWAYS, **registers: int) -> Observed:
    """Begin with code at CODE of the code segment."""
    board.write(slots[state.SEGMENT_BASES + state.CS] + CODE, bytes.fromhex(code))
    numbers = [registers.get(name, 0) for name in state.REGISTERS]
    board.start(slots, numbers, CODE, flags)
    assert isinstance(board.cpu, Observed)
    return board.cpu


def run(slots: list[int], code: str, board: Board | None = None, **registers: int) -> Observed:
    """Run one instruction."""
    cpu = start(board or Board(), slots, code, **registers)
    cpu.run(1)
    return cpu


def raised(cpu: Observed) -> tuple[int, int] | None:
    return None if cpu.fault is None else (cpu.fault.vector, cpu.fault.error)


def at_level_3() -> list[int]:
    slots = protected_mode(_USER_CODE, _USER_DATA)
    slots[state.CPL] = 3
    return slots


def long_board() -> tuple[Board, list[int]]:
    board = Board()
    return board, long_mode(board.tables({CODE: CODE, 0x8000: 0x8000, 0x9000: 0x9000}))


GP: Final = (state.PROTECTION, 0)
UD: Final = (state.UNDEFINED, 0)


# -- who may ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        *("0f20c0", "0f22c0", "0f20d8", "0f22d8", "0f22e0", "0f21c0", "0f23c0", "0f06", "0f01f0", "0f08", "0f09", "f4"),
        *("0f30", "0f32", "0f013a", "0f33"),
    ],
)
def test_level_3_may_not(code: str) -> None:
    cpu = run(at_level_3(), code)
    assert raised(cpu) == GP
    assert cpu.slots[state.RIP] == CODE
    assert cpu.slots[state.HALT] == state.SHUTDOWN  # what the test's processor does at exceptions


@pytest.mark.parametrize(("code", "fault"), [("0f01ca", UD), ("0f01cb", UD), ("0f01e0", None), ("0f31", None)])
def test_level_3_may(code: str, fault: tuple[int, int] | None) -> None:
    assert raised(run(at_level_3(), code)) == fault


@pytest.mark.parametrize(
    ("bit", "code"), [(state.CR4_TSD, "0f31"), (state.CR4_TSD, "0f01f9"), (state.CR4_UMIP, "0f01e0")]
)
def test_level_3_may_not_if_the_system_says_so(bit: int, code: str) -> None:
    slots = at_level_3()
    slots[state.CR4] |= bit
    assert raised(run(slots, code)) == GP
    slots = protected_mode()
    slots[state.CR4] |= bit
    assert raised(run(slots, code)) is None


# -- control registers -------------------------------------------------------------------------------------------


def test_real_mode_becomes_protected_and_real_again() -> None:
    board = Board()
    # MOV EAX, CR0; INC AX; MOV CR0, EAX; DEC EAX; MOV CR0, EAX
    cpu = start(board, real_mode([0] * 6), "0f20c0 40 0f22c0 48 0f22c0")
    cpu.run(3)
    assert cpu.slots[state.CR0] == state.CR0_PE | state.CR0_ET
    assert cpu.slots[state.MODE] & state.MODE_PROTECTED
    cpu.run(2)
    assert cpu.slots[state.CR0] == state.CR0_ET
    assert cpu.slots[state.MODE] & state.MODE_PROTECTED == 0
    assert cpu.executed == 5


def test_bits_of_cr0_that_there_are_not_stay_clear() -> None:
    cpu = run(protected_mode(), "0f22c0", rax=0x7FFFFFFF)
    assert raised(cpu) is None
    assert cpu.slots[state.CR0] == 0x6005003F
    assert cpu.slots[state.MODE] & (state.MODE_NO_SSE | state.MODE_NO_X87)


@pytest.mark.parametrize("value", [state.CR0_PG, state.CR0_PE | state.CR0_NW])
def test_cr0_holds_no_contradictions(value: int) -> None:
    cpu = run(protected_mode(), "0f22c0", rax=value)
    assert raised(cpu) == GP
    assert cpu.slots[state.CR0] == protected_mode()[state.CR0]


def test_cr0_has_32_bits() -> None:
    board, slots = long_board()
    assert raised(run(slots, "0f22c0", board, rax=slots[state.CR0] | 1 << 32)) == GP


def test_long_mode_begins_and_ends_with_paging() -> None:
    board = Board()
    tables = board.tables({CODE: CODE})
    slots = protected_mode()
    slots[state.CR3] = tables
    slots[state.CR4] |= state.CR4_PAE
    slots[state.EFER] = state.EFER_LME
    paged = slots[state.CR0] | state.CR0_PG
    cpu = start(board, slots, "0f22c0 0f22c3", rax=paged, rbx=paged & ~state.CR0_PG)
    cpu.run(1)
    assert raised(cpu) is None
    assert cpu.slots[state.EFER] == state.EFER_LME | state.EFER_LMA
    assert cpu.slots[state.MODE] & state.MODE_CODE == state.MODE_32
    cpu.run(1)
    assert raised(cpu) is None
    assert cpu.slots[state.EFER] == state.EFER_LME
    assert cpu.slots[state.CR0] & state.CR0_PG == 0


def test_long_mode_needs_pae() -> None:
    slots = protected_mode()
    slots[state.EFER] = state.EFER_LME
    cpu = run(slots, "0f22c0", rax=slots[state.CR0] | state.CR0_PG)
    assert raised(cpu) == GP
    assert cpu.slots[state.EFER] == state.EFER_LME


def test_long_mode_does_not_begin_in_code_of_64_bits() -> None:
    board = Board()
    slots = protected_mode(CODE_64 | 0x4000)
    slots[state.CR3] = board.tables({CODE: CODE})
    slots[state.CR4] |= state.CR4_PAE
    slots[state.EFER] = state.EFER_LME
    assert raised(run(slots, "0f22c0", board, rax=slots[state.CR0] | state.CR0_PG)) == GP


def test_64_bit_mode_keeps_paging_and_pae() -> None:
    board, slots = long_board()
    assert raised(run(list(slots), "0f22c0", board, rax=slots[state.CR0] & ~state.CR0_PG)) == GP
    assert raised(run(list(slots), "0f22e0", board, rax=slots[state.CR4] & ~state.CR4_PAE)) == GP


@pytest.mark.parametrize("bit", [*(0, 1, 12, 13, 14, 15, 17, 18, 19), *range(22, 32)])
def test_cr4_refuses_what_there_is_not(bit: int) -> None:
    assert raised(run(protected_mode(), "0f22e0", rax=1 << bit)) == GP


def test_cr4_takes_what_there_is() -> None:
    slots = protected_mode()
    slots[state.CR0] &= ~state.CR0_TS
    value = 0x3107FC
    cpu = run(slots, "0f22e0", rax=value | state.CR4_UMIP)
    assert raised(cpu) is None
    assert cpu.slots[state.CR4] == value | state.CR4_UMIP
    cpu = run(slots, "0f22e0", rax=0)
    assert cpu.slots[state.MODE] & state.MODE_NO_SSE


def test_cr3_refuses_bits_above_addresses() -> None:
    board, slots = long_board()
    assert raised(run(list(slots), "0f22d8", board, rax=slots[state.CR3] | 1 << 40)) == GP
    assert raised(run(list(slots), "0f22d8", board, rax=slots[state.CR3] | 1 << 63)) == GP
    assert raised(run(list(slots), "0f22d8", board, rax=slots[state.CR3])) is None


@pytest.mark.parametrize(("value", "fault"), [(15, None), (16, GP), (1 << 32, GP)])
def test_cr8_has_four_bits(value: int, fault: tuple[int, int] | None) -> None:
    board, slots = long_board()
    cpu = start(board, slots, "440f22c0 440f20c3", rax=value)
    cpu.run(1)
    assert raised(cpu) == fault
    if fault is None:
        cpu.run(1)
        assert cpu.slots[state.RBX] == value


def test_cr2_is_kept_whole() -> None:
    board, slots = long_board()
    cpu = start(board, slots, "0f22d0 0f20d3", rax=0xFFFF800012345678)
    cpu.run(2)
    assert cpu.slots[state.RBX] == 0xFFFF800012345678


def test_a_new_cr3_shows_other_pages() -> None:
    board = Board()
    slots = long_mode(board.tables({CODE: CODE, 0x8000: 0x8000}))
    other = board._tables
    board.write(other, board.read(slots[state.CR3], PAGE))
    # A copy of all levels, whose last one has another page.
    copies = [other + PAGE * level for level in range(4)]
    for level, table in enumerate(copies):
        board.write(table, board.read(slots[state.CR3] + PAGE * level, PAGE))
        if level < 3:
            board.write(table, struct.pack("<Q", copies[level + 1] | 3))
    board.write(copies[3] + 8 * 8, struct.pack("<Q", 0x9003))
    board.write(0x8000, b"\x11")
    board.write(0x9000, b"\x22")
    # MOV BL, [RSI]; MOV CR3, RAX; MOV CL, [RSI]
    cpu = start(board, slots, "8a1e 0f22d8 8a0e", rax=other, rsi=0x8000)
    cpu.run(3)
    assert raised(cpu) is None
    assert (cpu.slots[state.RBX], cpu.slots[state.RCX]) == (0x11, 0x22)


def test_invlpg_shows_another_page() -> None:
    board, slots = long_board()
    entry = slots[state.CR3] + 3 * PAGE + 8 * 8
    board.write(0x8000, b"\x11")
    board.write(0x9000, b"\x22")
    # MOV BL, [RSI]; INVLPG [RSI]; MOV CL, [RSI]
    cpu = start(board, slots, "8a1e 0f013e 8a0e", rsi=0x8000)
    cpu.run(1)
    board.write(entry, struct.pack("<Q", 0x9003))
    cpu.run(2)
    assert (cpu.slots[state.RBX], cpu.slots[state.RCX]) == (0x11, 0x22)


def last_entry(board: Board, slots: list[int], change: int, level: int = 3) -> None:
    """Change bits of the entry of the page at 0x8000, or of the one above it at another level."""
    at = slots[state.CR3] + level * PAGE + (8 * 8 if level == 3 else 0)
    (entry,) = struct.unpack("<Q", board.read(at, 8))
    board.write(at, struct.pack("<Q", entry ^ change))


def test_write_protection_counts_at_once() -> None:
    board, slots = long_board()
    last_entry(board, slots, 2)
    # MOV [RSI], AL; MOV CR0, RBX; MOV [RSI], AL
    cpu = start(board, slots, "8806 0f22c3 8806", rsi=0x8000, rbx=slots[state.CR0] | state.CR0_WP)
    cpu.run(2)
    assert raised(cpu) is None
    cpu.run(1)
    assert raised(cpu) == (state.PAGE_FAULT, 3)


def test_pages_of_users_are_closed_at_once() -> None:
    board, slots = long_board()
    for level in range(4):
        last_entry(board, slots, 4, level)
    # MOV AL, [RSI]; MOV CR4, RBX; MOV AL, [RSI]
    cpu = start(board, slots, "8a06 0f22e3 8a06", rsi=0x8000, rbx=slots[state.CR4] | state.CR4_SMAP)
    cpu.run(2)
    assert raised(cpu) is None
    cpu.run(1)
    assert raised(cpu) == (state.PAGE_FAULT, 1)


def test_the_bit_that_forbids_code_is_reserved_at_once() -> None:
    board, slots = long_board()
    last_entry(board, slots, 1 << 63)
    # MOV BL, [RSI]; WRMSR; MOV BL, [RSI]
    cpu = start(board, slots, "8a1e 0f30 8a1e", rsi=0x8000, rcx=0xC0000080, rax=state.EFER_LME)
    cpu.run(2)
    assert raised(cpu) is None
    cpu.run(1)
    assert raised(cpu) == (state.PAGE_FAULT, 9)


def pae_board(entry: int) -> tuple[Board, list[int]]:
    """Return a board whose PDPTEs at 0x20000 lead to one page of 2 MiB at 0, or to what ``entry`` says."""
    board = Board()
    board.write(0x20000, struct.pack("<4Q", entry, 0, 0, 0))
    board.write(0x21000, struct.pack("<Q", 0x83))
    slots = protected_mode()
    slots[state.CR3] = 0x20000
    slots[state.CR4] |= state.CR4_PAE
    return board, slots


@pytest.mark.parametrize(("entry", "fault"), [(0x21001, None), (0x21003, GP), (0x21001 | 1 << 40, GP)])
def test_pae_reads_its_pointers_when_paging_begins(entry: int, fault: tuple[int, int] | None) -> None:
    board, slots = pae_board(entry)
    cpu = run(slots, "0f22c0", board, rax=slots[state.CR0] | state.CR0_PG)
    assert raised(cpu) == fault
    assert bool(cpu.slots[state.CR0] & state.CR0_PG) == (fault is None)
    assert cpu.slots[state.PDPTES] == (entry if fault is None else 0)


def test_pae_reads_its_pointers_with_cr3() -> None:
    board, slots = pae_board(0x21001)
    board.write(0x22000, struct.pack("<4Q", 0x21009, 0, 0, 0))
    board.write(0x22020, struct.pack("<4Q", 0x21003, 0, 0, 0))
    cpu = start(board, slots, "0f22c0 0f22db 0f22d9", rax=slots[state.CR0] | state.CR0_PG, rbx=0x22000, rcx=0x22020)
    cpu.run(2)
    assert raised(cpu) is None
    assert cpu.slots[state.PDPTES] == 0x21009
    cpu.run(1)
    assert raised(cpu) == GP
    assert (cpu.slots[state.CR3], cpu.slots[state.PDPTES]) == (0x22000, 0x21009)


def test_the_machine_status_word() -> None:
    # LMSW AX; SMSW EBX; SMSW [ESI]; CLTS
    board = Board()
    cpu = start(board, protected_mode(), "0f01f0 0f01e3 0f0126 0f06", rax=0xFFFE, rsi=0x8000)
    cpu.run(1)
    # PE stays; nothing above bit 3 is set.
    expected = protected_mode()[state.CR0] | 0xE
    assert cpu.slots[state.CR0] == expected
    assert cpu.slots[state.MODE] & state.MODE_NO_X87
    cpu.run(3)
    assert cpu.slots[state.RBX] == expected
    assert board.read(0x8000, 4) == struct.pack("<I", expected & 0xFFFF)
    assert cpu.slots[state.CR0] == expected & ~state.CR0_TS


# -- debug registers -----------------------------------------------------------------------------------------------


def test_debug_registers_are_kept_with_their_fixed_bits() -> None:
    cpu = start(
        Board(), protected_mode(), "0f23c0 0f23f3 0f23f9 0f21c2 0f21f6 0f21ff", rax=0x1234, rbx=0xFFFFFFFF, rcx=0
    )
    cpu.run(6)
    assert raised(cpu) is None
    assert cpu.registers[state.RDX] == 0x1234
    assert cpu.registers[state.RSI] == 0xFFFFEFFF
    assert cpu.registers[state.RDI] == 0x400


def test_dr4_and_dr5_are_others_unless_debug_extensions_are_on() -> None:
    slots = protected_mode()
    slots[state.DEBUG + 6] = 0xFFFF0FF0
    assert run(list(slots), "0f21e0").slots[state.RAX] == 0xFFFF0FF0
    cpu = run(list(slots), "0f23e8", rax=0x55)
    assert cpu.slots[state.DEBUG + 7] == 0x455
    slots[state.CR4] |= state.CR4_DE
    assert raised(run(list(slots), "0f21e0")) == UD
    assert raised(run(list(slots), "0f23e8")) == UD


def test_debug_registers_are_guarded() -> None:
    slots = protected_mode()
    slots[state.DEBUG + 7] = 0x2400
    cpu = run(slots, "0f21c0")
    assert raised(cpu) == (state.DEBUG_EXCEPTION, 0)
    assert cpu.slots[state.DEBUG + 6] & 1 << 13
    # The handler may look.
    assert cpu.slots[state.DEBUG + 7] == 0x400


@pytest.mark.parametrize(("code", "fault"), [("0f23f0", GP), ("0f23f8", GP), ("0f23d8", None)])
def test_debug_status_and_control_have_32_bits(code: str, fault: tuple[int, int] | None) -> None:
    board, slots = long_board()
    assert raised(run(slots, code, board, rax=1 << 32)) == fault


# -- model-specific registers ----------------------------------------------------------------------------------------

_KERNEL: Final = 0xFFFF888012345678
_STORAGE: Final = (
    (0xC0000081, 0x0023001000000000, state.STAR),
    (0xC0000082, _KERNEL, state.LSTAR),
    (0xC0000083, _KERNEL, state.CSTAR),
    (0xC0000084, 0x47700, state.SFMASK),
    (0xC0000100, 0x7F1234567000, state.SEGMENT_BASES + state.FS),
    (0xC0000101, _KERNEL, state.SEGMENT_BASES + state.GS),
    (0xC0000102, _KERNEL, state.KERNEL_GS_BASE),
    (0xC0000103, 5, state.TSC_AUX),
    (0x174, 0x10, state.SYSENTER_CS),
    (0x175, _KERNEL, state.SYSENTER_ESP),
    (0x176, _KERNEL, state.SYSENTER_EIP),
    (0x277, 0x0407050600070106, state.PAT),
    (0x1B, 0xFEE00900, state.APIC_BASE),
    (0x1A0, 0x850089, state.MISC_ENABLE),
)


@pytest.mark.parametrize(("number", "value", "slot"), _STORAGE)
def test_a_model_specific_register_is_kept(number: int, value: int, slot: int) -> None:
    board, slots = long_board()
    cpu = start(board, slots, "0f30 89ff 0f32", rcx=number | 0xABCD << 32, rax=value & 0xFFFFFFFF, rdx=value >> 32)
    cpu.run(1)
    assert raised(cpu) is None
    assert cpu.slots[slot] == value
    cpu.slots[state.RAX] = cpu.slots[state.RDX] = (1 << 64) - 1
    cpu.run(2)
    assert cpu.slots[state.RAX] == value & 0xFFFFFFFF
    assert cpu.slots[state.RDX] == value >> 32


@pytest.mark.parametrize(
    ("number", "value"),
    [
        *((number, 1 << 47) for number in (0xC0000082, 0xC0000083, 0xC0000100, 0xC0000101, 0xC0000102, 0x175, 0x176)),
        *((0x277, 2), (0x277, 8 << 32), (0x1B, 1 << 40), (0x1B, 1 << 10), (0xC0000103, 1 << 32)),
        *((0xC0000080, 2), (0xC0000080, 1 << 12), (0x12345, 0), (0xC0000085, 0), (0x48, 0), (0x20F + 1, 0)),
    ],
)
def test_a_model_specific_register_refuses(number: int, value: int) -> None:
    board, slots = long_board()
    before = list(slots)
    cpu = run(slots, "0f30", board, rcx=number, rax=value & 0xFFFFFFFF, rdx=value >> 32)
    assert raised(cpu) == GP
    assert [cpu.slots[slot] for _, _, slot in _STORAGE] == [before[slot] for _, _, slot in _STORAGE]
    assert cpu.slots[state.EFER] == before[state.EFER]


@pytest.mark.parametrize("number", [0x17, 0x8B, 0xFE, 0x179, 0x200, 0x20F, 0x250, 0x258, 0x259, 0x268, 0x26F, 0x2FF])
def test_some_registers_hold_nothing(number: int) -> None:
    cpu = start(Board(), protected_mode(), "0f30 0f32", rcx=number, rax=0xC06, rdx=3)
    cpu.run(2)
    assert raised(cpu) is None
    assert (cpu.slots[state.RAX], cpu.slots[state.RDX]) == (0, 0)


def test_reading_a_register_there_is_not_faults() -> None:
    cpu = run(protected_mode(), "0f32", rcx=0x12345, rax=7)
    assert raised(cpu) == GP
    assert cpu.slots[state.RAX] == 7


def test_efer_keeps_lma_and_does_not_change_lme_while_paging() -> None:
    board, slots = long_board()
    cpu = run(list(slots), "0f30", board, rcx=0xC0000080, rax=state.EFER_SCE | state.EFER_LME)
    assert raised(cpu) is None
    assert cpu.slots[state.EFER] == state.EFER_SCE | state.EFER_LME | state.EFER_LMA
    assert raised(run(list(slots), "0f30", board, rcx=0xC0000080, rax=state.EFER_SCE)) == GP
    cpu = run(protected_mode(), "0f30", rcx=0xC0000080, rax=state.EFER_LME | state.EFER_LMA)
    assert cpu.slots[state.EFER] == state.EFER_LME


def test_time_is_what_was_executed() -> None:
    cpu = start(Board(), protected_mode(), "90 0f31 90 0f30 0f31 90 0f01f9", rcx=0x10, rax=0)
    cpu.slots[state.TSC_AUX] = 9
    cpu.run(2)
    assert cpu.registers[state.RAX] == 1
    cpu.slots[state.RAX], cpu.slots[state.RDX] = 0xFFFFFFFF, 7
    cpu.run(2)
    cpu.run(1)
    assert (cpu.registers[state.RDX], cpu.registers[state.RAX]) == (8, 0)
    cpu.run(2)
    assert (cpu.registers[state.RDX], cpu.registers[state.RAX], cpu.registers[state.RCX]) == (8, 2, 9)


# -- bases ---------------------------------------------------------------------------------------------------------


def test_bases_are_read_written_and_swapped() -> None:
    board, slots = long_board()
    slots[state.CR4] |= state.CR4_FSGSBASE
    slots[state.KERNEL_GS_BASE] = _KERNEL
    # WRFSBASE RAX; WRGSBASE EBX; RDFSBASE RCX; SWAPGS; RDGSBASE RDX; RDFSBASE ESI
    code = "f3480faed0 f30faedb f3480faec1 0f01f8 f3480faeca f30faec6"
    cpu = start(board, slots, code, rax=0x7F1234567000, rbx=0xFFFFFFFFFFFFFFFF)
    cpu.run(6)
    assert raised(cpu) is None
    assert cpu.registers[state.RCX] == 0x7F1234567000
    assert cpu.registers[state.RDX] == _KERNEL
    assert cpu.registers[state.RSI] == 0x34567000
    assert cpu.slots[state.KERNEL_GS_BASE] == 0xFFFFFFFF


@pytest.mark.parametrize(("bit", "value", "fault"), [(0, 0, UD), (state.CR4_FSGSBASE, 1 << 47, GP)])
def test_a_base_is_refused(bit: int, value: int, fault: tuple[int, int]) -> None:
    board, slots = long_board()
    slots[state.CR4] |= bit
    assert raised(run(slots, "f3480faed8", board, rax=value)) == fault


def test_swapgs_is_there_only_in_64_bit_mode() -> None:
    assert raised(run(protected_mode(), "0f01f8")) == UD


# -- others --------------------------------------------------------------------------------------------------------


def test_hlt_waits_for_an_interrupt_behind_itself() -> None:
    board = Board()
    board.bus.vectors = [0x21]
    cpu = start(board, protected_mode(), "f4 90", state.ALWAYS | state.IF)
    assert cpu.run(10) is Stop.HALTED
    assert (cpu.slots[state.RIP], cpu.executed) == (CODE + 1, 1)
    assert cpu.run(10) is Stop.HALTED
    cpu.set_interrupt_line(True)
    cpu.run(1)
    assert raised(cpu) == (0x21, 0)
    assert cpu.slots[state.RIP] == CODE + 1


@pytest.mark.parametrize("smap", [False, True])
def test_stac_and_clac_open_and_close_pages_of_users(smap: bool) -> None:
    board, slots = long_board()
    for level in range(4):
        last_entry(board, slots, 4, level)
    slots[state.CR4] |= state.CR4_SMAP if smap else 0
    # MOV AL, [RSI] before, with STAC, and after CLAC
    cpu = start(board, slots, "0f01cb 8a06 0f01ca 8a06", rsi=0x8000)
    cpu.run(1)
    assert cpu.slots[state.SYSTEM_FLAGS] & state.AC
    cpu.run(2)
    assert raised(cpu) is None
    assert cpu.slots[state.SYSTEM_FLAGS] & state.AC == 0
    cpu.run(1)
    assert raised(cpu) == ((state.PAGE_FAULT, 1) if smap else None)


@pytest.mark.parametrize("code", ["0f08", "0f09"])
def test_there_are_no_caches_to_write_back(code: str) -> None:
    cpu = run(protected_mode(), code)
    assert raised(cpu) is None
    assert cpu.slots[state.RIP] == CODE + 2
