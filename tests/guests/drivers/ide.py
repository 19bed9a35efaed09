"""IDE disks, by the data port and by the bus master."""

from __future__ import annotations

from typing import Final

from tests.guests.drivers.driver import Driver, out
from tests.guests.drivers.pci import CLASS, enable_ports, search
from tests.guests.exerciser import COUNT, LBA, PLACE

#: Registers of the primary channel (ATA8-APT), and bits of its status.
_DATA, _ERROR, _COUNT, _LOW, _MIDDLE, _HIGH, _DEVICE, _STATUS = range(0x1F0, 0x1F8)
_CONTROL: Final = 0x3F6
_BUSY, _FAULT, _REQUEST, _WRONG = 0x80, 0x20, 0x08, 0x01
#: Addresses by sectors, and the master.
_MASTER: Final = 0xE0
#: Where IDENTIFY DEVICE puts what it tells, until sectors are read to it; words 60 and 100 have the capacity.
_IDENTITY: Final = 0xA000


def _byte_out(port: int, byte: int) -> str:
    """Return lines that write a byte of LBA to a port."""
    return out(port, f"[{LBA + byte}]")


#: Routines of all IDE drivers.
_IDE: Final = f"""
    ready:                                  ; wait until the drive is not busy; AL = its status
        mov edx, {_CONTROL}                 ; the alternate status: four times are 400 ns
        in al, dx
        in al, dx
        in al, dx
        in al, dx
        mov edx, {_STATUS}
    wait:
        in al, dx
        test al, {_BUSY}
        jne wait
        test al, {_FAULT | _WRONG}
        jne failed
        ret

    wanted:                                 ; wait until the drive wants to transfer a block
        call ready
        test al, {_REQUEST}
        je failed
        ret

    done:                                   ; wait until it wants nothing any more
        call ready
        test al, {_REQUEST}
        jne failed
        ret

    address_28:                             ; tell COUNT and LBA in 28 bits
        mov edx, {_DEVICE}
        mov al, [{LBA + 3}]
        and al, 0x0f
        or al, {_MASTER}
        out dx, al
        call done
        {out(_COUNT, COUNT)}
        {_byte_out(_LOW, 0)}
        {_byte_out(_MIDDLE, 1)}
        {_byte_out(_HIGH, 2)}
        ret

    address_48:                             ; tell them in 48 bits: the upper halves first
        {out(_DEVICE, _MASTER)}
        call done
        {out(_COUNT, 0)}
        {_byte_out(_LOW, 3)}
        {_byte_out(_MIDDLE, 4)}
        {_byte_out(_HIGH, 5)}
        {out(_COUNT, COUNT)}
        {_byte_out(_LOW, 0)}
        {_byte_out(_MIDDLE, 1)}
        {_byte_out(_HIGH, 2)}
        ret

    identify:
        {out(_DEVICE, _MASTER)}
        mov edx, {_STATUS}
        in al, dx
        cmp al, 0
        je absent
        cmp al, 0x7f                        ; a cable without drives
        je absent
        call done
        {out(_STATUS, 0xEC)}
        call wanted
        mov edi, {_IDENTITY}
        mov edx, {_DATA}
        mov ecx, 256
        rep insw
        call done
        ret
"""


def _pio(address: str, identity: str, read: int, write: int, flush: int, unit: int) -> str:
    """Return a driver that transfers by the data port, ``unit`` bytes at a time."""
    width = {2: "w", 4: "d"}[unit]
    return f"""
    setup:
        {out(_CONTROL, 2)}                 ; no interrupts
        call identify
        {identity}
        ret

    read:
        call {address}
        {out(_STATUS, read)}
        mov edi, [{PLACE}]
        mov ebx, {COUNT}
    read_sector:
        call wanted
        mov edx, {_DATA}
        mov ecx, {512 // unit}
        rep ins{width}
        dec ebx
        jne read_sector
        call done
        ret

    write:
        call {address}
        {out(_STATUS, write)}
        mov esi, [{PLACE}]
        mov ebx, {COUNT}
    write_sector:
        call wanted
        mov edx, {_DATA}
        mov ecx, {512 // unit}
        rep outs{width}
        dec ebx
        jne write_sector
        call done
        ret

    flush:
        {out(_STATUS, flush)}
        call done
        ret
        {_IDE}
    """


#: The capacity as IDENTIFY DEVICE tells it, for 28 and for 48 bits.
_CAPACITY_28: Final = f"""
        mov eax, [{_IDENTITY + 2 * 60}]
        mov [{LBA}], eax
        mov dword [{LBA + 4}], 0
"""
_CAPACITY_48: Final = f"""
        mov eax, [{_IDENTITY + 2 * 100}]
        mov [{LBA}], eax
        mov eax, [{_IDENTITY + 2 * 102}]
        mov [{LBA + 4}], eax
        mov al, [{_IDENTITY + 2 * 83 + 1}]
        test al, 4                          ; word 83, bit 10: it has addresses of 48 bits
        je absent
"""

#: Where the bus master's registers are (Bus Master IDE 1.0, 2.0): start and to memory; active, error and interrupt.
_MASTER_PORTS: Final = 0xC000
_MASTER_COMMAND, _MASTER_STATUS, _MASTER_TABLE = _MASTER_PORTS, _MASTER_PORTS + 2, _MASTER_PORTS + 4
_START, _TO_MEMORY, _ACTIVE, _BROKEN, _INTERRUPT = 1, 8, 1, 2, 4
#: Where the table of areas is, and those it has: offset and length. The last one is marked.
_TABLE: Final = 0x800
_AREAS: Final = ((0, 0x100), (0x100, 0x200), (0x300, 0x100))
_LAST: Final = 0x80000000


def _table() -> str:
    """Return lines that describe the memory at PLACE."""
    entries = [
        f"""
        mov eax, [{PLACE}]
        add eax, {offset}
        mov [{_TABLE + 8 * number}], eax
        mov dword [{_TABLE + 8 * number + 4}], {length | (_LAST if number == len(_AREAS) - 1 else 0)}
        """
        for number, (offset, length) in enumerate(_AREAS)
    ]
    return "".join(entries)


def _dma(command: int, direction: int) -> str:
    """Return lines that transfer by a command, in a direction of the bus master."""
    return f"""
        {_table()}
        mov edx, {_MASTER_TABLE}
        mov eax, {_TABLE}
        out dx, eax
        {out(_MASTER_COMMAND, direction)}
        {out(_MASTER_STATUS, _INTERRUPT | _BROKEN)}
        call address_48
        {out(_STATUS, command)}
        {out(_MASTER_COMMAND, direction | _START)}
        call interrupt
        {out(_MASTER_COMMAND, 0)}
        call done
        ret
    """


_BUS_MASTER: Final = f"""
    setup:
        {search(CLASS, 16, 0x0101)}       ; mass storage, IDE
        {enable_ports(4, _MASTER_PORTS)}
        {out(_CONTROL, 0)}                 ; interrupts, which the bus master notes
        call identify
        {_CAPACITY_48}
        ret

    read:
        {_dma(0x25, _TO_MEMORY)}

    write:
        {_dma(0x35, 0)}

    flush:
        {out(_STATUS, 0xEA)}
        call done
        ret

    interrupt:                              ; wait for one; then the bus master has ended, and without an error
        mov edx, {_MASTER_STATUS}
    interrupt_wait:
        in al, dx
        test al, {_INTERRUPT}
        je interrupt_wait
        test al, {_ACTIVE | _BROKEN}
        jne failed
        ret
        {_IDE}
"""

PIO_28: Final = Driver("ide", _pio("address_28", _CAPACITY_28, read=0x20, write=0x30, flush=0xE7, unit=2), most=1 << 27)
PIO_48: Final = Driver("ide", _pio("address_48", _CAPACITY_48, read=0x24, write=0x34, flush=0xEA, unit=4))
DMA: Final = Driver("ide", _BUS_MASTER)
