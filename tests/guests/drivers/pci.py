"""Finding a function on the PCI bus, and its configuration."""

from __future__ import annotations

#: Where a program keeps the function that was found, as the address register takes it.
_FUNCTION = 0x620
#: Registers of configuration space (PCI 3.0, 6.1), and what lets a function answer ports and memory, and use RAM.
COMMAND, CLASS, BAR = 0x04, 0x08, 0x10
IO, MEMORY, USE_RAM = 1, 2, 4


def search(register: int, shift: int, value: int) -> str:
    """Return lines that look for a function on bus 0 whose register, shifted right, has a value."""
    return f"""
        mov dword [{_FUNCTION}], 0x80000000
    search:
        {config(register)}
        shr eax, {shift}
        cmp eax, {value}
        je found
        add dword [{_FUNCTION}], 0x100
        cmp dword [{_FUNCTION}], 0x80010000
        jne search
        jmp absent
    found:
    """


def select(*register: int | str) -> str:
    """Return lines that choose a register of the function, the sum of what is given; EDX is the port of its data."""
    adding = "".join(f"add eax, {part}\n" for part in register)
    return f"""
        mov eax, [{_FUNCTION}]
        {adding}
        mov edx, 0xcf8
        out dx, eax
        mov edx, 0xcfc
    """


def config(*register: int | str) -> str:
    """Return lines that read a register to EAX."""
    return select(*register) + "in eax, dx\n"


def set_config(register: int, value: int) -> str:
    """Return lines that write one."""
    return f"""
        {select(register)}
        mov eax, {value}
        out dx, eax
    """


def enable_ports(bar: int, port: int) -> str:
    """Return lines that put a window of ports at ``port``, and let the function use RAM."""
    return f"""
        {set_config(BAR + 4 * bar, port)}
        {config(BAR + 4 * bar)}
        cmp eax, {port | 1}                 ; it is one of ports
        jne absent
        {set_config(COMMAND, IO | USE_RAM)}
    """
