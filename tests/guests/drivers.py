"""Drivers for the program of tests/guests/exerciser.py, which wait by looking: IDE disks by their registers
and by the bus master.

Each has four routines, which may change all registers, and jump to ``absent`` or ``failed`` if something is wrong:
``setup`` leaves the number of sectors in LBA; ``read`` and ``write`` transfer COUNT sectors from LBA, to or from PLACE;
``flush`` makes what was written durable.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.guests.exerciser import COUNT, LBA, PLACE
from tests.guests.modes import MODES


class Driver(NamedTuple):
    """A driver.

    Attributes:
        interface: What kind of disk it is for.
        lines: Its routines.
        modes: In which it runs, by bits.
        most: Sectors that it can address; None if its addresses have more than 32 bits.
    """

    interface: str
    lines: str
    modes: tuple[int, ...] = MODES
    most: int | None = None


#: Registers of the primary channel (ATA8-APT), and bits of its status.
_DATA, _ERROR, _COUNT, _LOW, _MIDDLE, _HIGH, _DEVICE, _STATUS = range(0x1F0, 0x1F8)
_CONTROL: Final = 0x3F6
_BUSY, _FAULT, _REQUEST, _WRONG = 0x80, 0x20, 0x08, 0x01
#: Addresses by sectors, and the master.
_MASTER: Final = 0xE0
#: Where IDENTIFY DEVICE puts what it tells, until sectors are read to it; words 60 and 100 have the capacity.
_IDENTITY: Final = 0xA000


def _out(port: int, value: int | str) -> str:
    """Return lines that write a byte, or a register of one, to a port."""
    return f"mov edx, {port}\nmov al, {value}\nout dx, al\n"


def _byte_out(port: int, byte: int) -> str:
    """Return lines that write a byte of LBA to a port."""
    return _out(port, f"[{LBA + byte}]")


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
        {_out(_COUNT, COUNT)}
        {_byte_out(_LOW, 0)}
        {_byte_out(_MIDDLE, 1)}
        {_byte_out(_HIGH, 2)}
        ret

    address_48:                             ; tell them in 48 bits: the upper halves first
        {_out(_DEVICE, _MASTER)}
        call done
        {_out(_COUNT, 0)}
        {_byte_out(_LOW, 3)}
        {_byte_out(_MIDDLE, 4)}
        {_byte_out(_HIGH, 5)}
        {_out(_COUNT, COUNT)}
        {_byte_out(_LOW, 0)}
        {_byte_out(_MIDDLE, 1)}
        {_byte_out(_HIGH, 2)}
        ret

    identify:
        {_out(_DEVICE, _MASTER)}
        mov edx, {_STATUS}
        in al, dx
        cmp al, 0
        je absent
        cmp al, 0x7f                        ; a cable without drives
        je absent
        call done
        {_out(_STATUS, 0xEC)}
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
        {_out(_CONTROL, 2)}                 ; no interrupts
        call identify
        {identity}
        ret

    read:
        call {address}
        {_out(_STATUS, read)}
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
        {_out(_STATUS, write)}
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
        {_out(_STATUS, flush)}
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

#: A function of a PCI device that was found, as the address register takes it; and where its window of ports is.
_FUNCTION, _WINDOW = 0x620, 0x624
#: Ports for windows, and memory for one: above RAM, and in what long mode maps here.
_MASTER_PORTS, _VIRTIO_PORTS, _VIRTIO_MEMORY = 0xC000, 0xC100, 0x20000000
#: Registers of configuration space (PCI 3.0, 6.1), and what lets a function answer ports and memory, and use RAM.
_COMMAND, _CLASS, _BAR = 0x04, 0x08, 0x10
_IO, _MEMORY, _USE_RAM = 1, 2, 4


def _search(register: int, shift: int, value: int) -> str:
    """Return lines that look for a function on bus 0 whose register, shifted right, has a value."""
    return f"""
        mov dword [{_FUNCTION}], 0x80000000
    search:
        {_config(register)}
        shr eax, {shift}
        cmp eax, {value}
        je found
        add dword [{_FUNCTION}], 0x100
        cmp dword [{_FUNCTION}], 0x80010000
        jne search
        jmp absent
    found:
    """


def _config(register: int | str) -> str:
    """Return lines that read a register of the function to EAX."""
    return f"""
        mov eax, [{_FUNCTION}]
        add eax, {register}
        mov edx, 0xcf8
        out dx, eax
        mov edx, 0xcfc
        in eax, dx
    """


def _set_config(register: int, value: int) -> str:
    """Return lines that write one."""
    return f"""
        {_config(register)}
        mov eax, {value}
        out dx, eax
    """


def _enable_ports(bar: int, port: int) -> str:
    """Return lines that put a window of ports at ``port``, and let the function use RAM."""
    return f"""
        {_set_config(_BAR + 4 * bar, port)}
        {_config(_BAR + 4 * bar)}
        cmp eax, {port | 1}                 ; it is one of ports
        jne absent
        {_set_config(_COMMAND, _IO | _USE_RAM)}
    """


#: Registers of the bus master (Bus Master IDE 1.0, 2.0): start and to memory; active, error and interrupt.
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
        {_out(_MASTER_COMMAND, direction)}
        {_out(_MASTER_STATUS, _INTERRUPT | _BROKEN)}
        call address_48
        {_out(_STATUS, command)}
        {_out(_MASTER_COMMAND, direction | _START)}
        call interrupt
        {_out(_MASTER_COMMAND, 0)}
        call done
        ret
    """


_BUS_MASTER: Final = f"""
    setup:
        {_search(_CLASS, 16, 0x0101)}       ; mass storage, IDE
        {_enable_ports(4, _MASTER_PORTS)}
        {_out(_CONTROL, 0)}                 ; interrupts, which the bus master notes
        call identify
        {_CAPACITY_48}
        ret

    read:
        {_dma(0x25, _TO_MEMORY)}

    write:
        {_dma(0x35, 0)}

    flush:
        {_out(_STATUS, 0xEA)}
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

DRIVERS: Final = {
    "pio28": Driver("ide", _pio("address_28", _CAPACITY_28, read=0x20, write=0x30, flush=0xE7, unit=2), most=1 << 27),
    "pio48": Driver("ide", _pio("address_48", _CAPACITY_48, read=0x24, write=0x34, flush=0xEA, unit=4)),
    "dma": Driver("ide", _BUS_MASTER),
}
