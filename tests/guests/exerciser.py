"""A program that reads, writes and verifies sectors by one of the drivers of tests/guests/drivers.

It tells the disk's capacity and the sum of what it read on the serial port, and leaves with a code at port 501h:

====  ======================================================================
21h   all went well
22h   there is no such device, or not with what the driver needs
23h   the device reports an error, or a state that it should not be in
24h   what was read back is not what was written
25h   what had not been written was other when it was read again
====  ======================================================================
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.guests.drivers.driver import DIGITS

if TYPE_CHECKING:
    from tests.guests.drivers.driver import Driver

WELL, ABSENT, FAILED, DIFFERENT, CHANGED = range(0x21, 0x26)
SECTOR: Final = 512
#: Sectors of a transfer, and what they have.
COUNT: Final = 2
LENGTH: Final = COUNT * SECTOR
#: Variables of the program: the sector of a transfer (64 bits) and its memory, and what came of earlier steps.
LBA, PLACE, SUM, LEFT = 0x600, 0x608, 0x60C, 0x610
#: Where sectors are read to, and what is written.
BUFFER, PATTERN = 0xA000, 0xA800
#: The pattern: each number comes from the one before.
_FACTOR, _INCREMENT = 1664525, 1013904223


class Task(NamedTuple):
    """What a program does.

    Attributes:
        source: The sectors that are read.
        target: Those that are written.
        seed: Where the pattern begins.
        again: How often ``source`` is read once more in the end.
    """

    source: int
    target: int
    seed: int = 0x12345678
    again: int = 1


def sum_of(data: bytes) -> int:
    """Return the sum of the numbers in ``data``, which depends on their order."""
    total = 0
    for (number,) in struct.iter_unpack("<I", data):
        total = (total << 1 | total >> 31) + number & 0xFFFFFFFF
    return total


def pattern(seed: int) -> bytes:
    """Return what is written."""
    found = []
    for _ in range(LENGTH // 4):
        seed = seed * _FACTOR + _INCREMENT & 0xFFFFFFFF
        found.append(seed)
    return struct.pack(f"<{len(found)}I", *found)


def says(sectors: int, source: bytes) -> str:
    """Return what a program sends when all goes well, of a disk with so many sectors."""
    return f"capacity {sectors:016x}\nsum {sum_of(source):08x}\nwritten\nsame\n"


def program(driver: Driver, task: Task) -> str:
    """Return the lines of the program."""
    return f"""
        call setup
        {say("capacity ")}
        mov ebx, [{LBA + 4}]                ; setup leaves it there
        call number
        mov ebx, [{LBA}]
        call number
        {say(chr(10))}

        {transfer("read", task.source, BUFFER)}
        call sum
        mov [{SUM}], ebx
        {say("sum ")}
        call number
        {say(chr(10))}

        mov edi, {PATTERN}
        mov ecx, {LENGTH // 4}
        mov eax, {task.seed}
    next:
        imul eax, eax, {_FACTOR}
        add eax, {_INCREMENT}
        stosd
        dec ecx
        jne next
        {transfer("write", task.target, PATTERN)}
        call flush
        {say("written" + chr(10))}

        call clear
        {transfer("read", task.target, BUFFER)}
        mov esi, {BUFFER}
        mov ecx, {LENGTH // 4}
    compare:
        mov eax, [esi]
        cmp eax, [esi + {PATTERN - BUFFER}]
        jne different
        add esi, 4
        dec ecx
        jne compare
        {say("same" + chr(10))}

        mov dword [{LEFT}], {task.again}
    again:
        call clear
        {transfer("read", task.source, BUFFER)}
        call sum
        cmp ebx, [{SUM}]
        jne changed
        dec dword [{LEFT}]
        jne again
        mov al, {WELL}
        jmp leave
    absent:
        mov al, {ABSENT}
        jmp leave
    failed:
        mov al, {FAILED}
        jmp leave
    different:
        mov al, {DIFFERENT}
        jmp leave
    changed:
        mov al, {CHANGED}
    leave:
        mov edx, 0x501
        out dx, al
        cli
        hlt

    sum:                                    ; EBX = the sum of what is in the buffer
        mov esi, {BUFFER}
        mov ecx, {LENGTH // 4}
        mov ebx, 0
    sum_next:
        rol ebx, 1
        add ebx, [esi]
        add esi, 4
        dec ecx
        jne sum_next
        ret

    clear:                                  ; the buffer
        mov edi, {BUFFER}
        mov ecx, {LENGTH // 4}
        mov eax, 0
        rep stosd
        ret

    number:                                 ; send the eight digits of EBX
        mov ecx, 8
        {DIGITS}

    send:                                   ; send AL
        mov ah, al
        mov edx, 0x3fd
    busy:
        in al, dx
        test al, 0x20
        je busy
        mov edx, 0x3f8
        mov al, ah
        out dx, al
        ret
        {driver.lines}
    """


def say(text: str) -> str:
    """Return lines that send ``text``."""
    return "".join(f"mov al, {ord(each)}\ncall send\n" for each in text)


def transfer(routine: str, sector: int, place: int) -> str:
    """Return lines that call a driver's routine."""
    return f"""
        mov dword [{LBA}], {sector & 0xFFFFFFFF}
        mov dword [{LBA + 4}], {sector >> 32}
        mov dword [{PLACE}], {place}
        call {routine}
    """
