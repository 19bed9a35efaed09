"""What starts a program: a ROM, in real, protected or long mode; or a boot sector, which firmware starts."""

from __future__ import annotations

import struct
from typing import Final

from tests.guests.assembler import assemble

SIZE: Final = 64 << 10
#: Where a program lies in RAM, and where it may not lie any more.
PROGRAM, PROGRAM_END = 0x7C00, 0xA000
#: Where in the ROM the code is that starts the program, its table of segments, and the pointer to that.
_STARTER, _SEGMENTS, _POINTER, _VECTOR = 0xE000, 0xF000, 0xF040, 0xFFF0
_ROM: Final = 0xF0000
#: Descriptors of segments: code of 32 bits, data, code of 64 bits; flat, and marked as used, since they are in ROM.
_DESCRIPTORS: Final = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF)
_CODE_32, _DATA, _CODE_64 = 0x08, 0x10, 0x18
#: Tables of pages of 2 MiB for long mode, which map the first GiB to itself.
_TABLES: Final = 0x1000

_REAL: Final = f"jmp 0:{PROGRAM}"
_PROTECTED: Final = f"""
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp {_CODE_32}:{PROGRAM}
"""
_LONG: Final = f"""
    mov edi, {_TABLES}
    mov ecx, 0xc00
    mov eax, 0
    rep stosd
    mov dword [{_TABLES}], {_TABLES + 0x1003}           ; present and writable
    mov dword [{_TABLES + 0x1000}], {_TABLES + 0x2003}
    mov edi, {_TABLES + 0x2000}
    mov eax, 0x83                                       ; and a page of 2 MiB
page:
    mov [edi], eax
    add edi, 8
    add eax, 0x200000
    cmp eax, 0x40000083
    jne page
    mov eax, 0x20                                       ; CR4.PAE
    mov cr4, eax
    mov eax, {_TABLES}
    mov cr3, eax
    mov ecx, 0xc0000080                                 ; EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    or eax, 0x80000001                                  ; PG and PE
    mov cr0, eax
    jmp {_CODE_64}:{PROGRAM}
"""
_ENTER: Final = {16: _REAL, 32: _PROTECTED, 64: _LONG}
MODES: Final = tuple(_ENTER)


def build(program: str, bits: int) -> bytes:
    """Return a ROM of 64 KiB that runs ``program`` in the mode of these bits, with a stack below it."""
    selectors = "" if bits == 16 else f"mov eax, {_DATA}\nmov ds, ax\nmov es, ax\nmov ss, ax\n"
    code = assemble(f"{selectors}mov esp, {PROGRAM}\n{program}", bits, PROGRAM)
    assert len(code) <= PROGRAM_END - PROGRAM
    starter = assemble(
        f"""
            cli
            cld
            mov ax, 0xf000
            mov ds, ax
            lgdt [{_POINTER}]
            mov ax, 0
            mov es, ax
            mov ss, ax
            mov esi, 0
            mov edi, {PROGRAM}
            mov ecx, {len(code)}
            rep movsb
            mov ds, ax
            {_ENTER[bits]}
        """,
        16,
        _STARTER,
    )
    rom = bytearray(SIZE)
    for at, data in (
        (0, code),
        (_STARTER, starter),
        (_SEGMENTS, struct.pack(f"<{len(_DESCRIPTORS)}Q", *_DESCRIPTORS)),
        (_POINTER, struct.pack("<HI", 8 * len(_DESCRIPTORS) - 1, _ROM + _SEGMENTS)),
        (_VECTOR, assemble(f"jmp 0xf000:{_STARTER}", 16, _VECTOR)),
    ):
        rom[at : at + len(data)] = data
    return bytes(rom)


#: A boot sector that reads the sectors behind it by INT 13h, and goes on there; with 26h at port 501h if that fails.
_BOOT: Final = """
    cli
    cld
    mov ax, 0
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, {stack}
    mov ah, 2                               ; read
    mov al, {count}
    mov cx, 2                               ; from the second sector of the first track
    mov dh, 0
    mov bx, {place}
    int 0x13
    cli
    jae read
    mov al, 0x26
    mov dx, 0x501
    out dx, al
    hlt
read:
    jmp 0:{place}
"""


def boot_disk(program: str) -> bytes:
    """Return the first sectors of a disk from which firmware starts ``program``, in real mode."""
    place = PROGRAM + 512
    code = assemble(f"mov esp, {PROGRAM}\n{program}", 16, place)
    assert len(code) <= PROGRAM_END - place
    count = -(-len(code) // 512)
    boot = assemble(_BOOT.format(stack=PROGRAM, count=count, place=place), 16, PROGRAM)
    return boot.ljust(510, b"\0") + b"\x55\xaa" + code.ljust(512 * count, b"\0")
