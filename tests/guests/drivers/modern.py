"""virtio disks by the modern interface, whose structures are in memory, or behind a window of configuration space."""

from __future__ import annotations

from typing import Final

from tests.guests.drivers.driver import Driver
from tests.guests.drivers.pci import BAR, COMMAND, MEMORY, USE_RAM, config, search, select, set_config
from tests.guests.drivers.virtio import (
    ACKNOWLEDGE,
    AVAILABLE,
    DRIVER,
    DRIVER_OK,
    FEATURE_FLUSH,
    FEATURE_VERSION_1,
    FEATURES_OK,
    QUEUE,
    REQUESTS,
    SIZE,
    USED,
)
from tests.guests.exerciser import LBA

#: Where memory is that devices have: above RAM, and in what long mode maps here.
_MEMORY: Final = 0x20000000
#: Variables: where a capability is, the BAR in which the structures are (virtio 1.2, 4.1.4), what notifications are
#: multiplied with, structures by their types, and a value on its way through the window.
_CAPABILITY, _BAR_NUMBER, _MULTIPLIER, _STRUCTURES, _VALUE = 0x644, 0x648, 0x64C, 0x650, 0x668
_COMMON, _NOTIFY, _ISR, _DEVICE, _WINDOW = (_STRUCTURES + 4 * kind for kind in range(1, 6))
_VENDOR: Final = 9
#: Registers of the common structure (4.1.4.3), with their sizes.
_FEATURE_SELECT, _FEATURE, _ACCEPT_SELECT, _ACCEPT = (0x00, 4), (0x04, 4), (0x08, 4), (0x0C, 4)
_STATUS, _QUEUE_SELECT, _QUEUE_SIZE, _ENABLE, _NOTIFY_OFFSET = (0x14, 1), (0x16, 2), (0x18, 2), (0x1C, 2), (0x1E, 2)
#: Where addresses of rings are told, in two halves.
_RINGS: Final = (0x20, 0x28, 0x30)
#: Rings that are no more aligned than they have to be, of few entries.
_ENTRIES: Final = 8
_PLACES: Final = (QUEUE, 0xD402, 0xE404)


def _get(register: tuple[int, int], structure: int = _COMMON) -> str:
    """Return lines that read a register of a structure to EAX."""
    offset, size = register
    return f"mov edi, [{structure}]\nadd edi, {offset}\nmov ecx, {size}\ncall get\n"


def _put(register: tuple[int, int], value: int, structure: int = _COMMON) -> str:
    """Return lines that write one."""
    offset, size = register
    return f"mov edi, [{structure}]\nadd edi, {offset}\nmov ecx, {size}\nmov eax, {value}\ncall put\n"


def _ring(at: int, address: int) -> str:
    return _put((at, 4), address) + _put((at + 4, 4), 0)


#: Each type of structure must be there.
_COMPLETE: Final = "".join(f"test byte [{_STRUCTURES}], {1 << kind}\nje absent\n" for kind in range(1, 6))


def _driver(opening: str, accesses: str) -> str:
    """Return a driver.

    Args:
        opening: Lines after which the structures, which are numbers in their BAR so far, can be accessed.
        accesses: Routines ``get`` and ``put``: what EDI points to, of ECX bytes, to EAX, and EAX to it.
    """
    return f"""
    setup:
        {search(0, 0, 0x10011AF4)}
        {config(COMMAND)}
        test eax, 0x100000                  ; it has capabilities
        je absent
        mov edi, {_CAPABILITY}
        mov ecx, 10
        mov eax, 0
        rep stosd
        mov dword [{_BAR_NUMBER}], 0xff
        {config(0x34)}
    walk:
        and eax, 0xfc
        je walked
        mov [{_CAPABILITY}], eax
        {config(f"[{_CAPABILITY}]")}
        mov ebx, eax                        ; ID, next, length and type
        cmp al, {_VENDOR}
        jne step
        mov ecx, ebx
        shr ecx, 24
        cmp ecx, 5
        ja step
        mov eax, 1                          ; one more of the types that were found
        shl eax, cl
        or [{_STRUCTURES}], eax
        mov edi, ecx
        shl edi, 2
        mov eax, [{_CAPABILITY}]
        mov [edi + {_STRUCTURES}], eax
        cmp ecx, 5                          ; the window is configuration space itself
        je step
        {config(f"[{_CAPABILITY}]", 4)}
        and eax, 0xff
        cmp dword [{_BAR_NUMBER}], 0xff
        je first
        cmp eax, [{_BAR_NUMBER}]
        jne absent                          ; they are not in the same one
    first:
        mov [{_BAR_NUMBER}], eax
        {config(f"[{_CAPABILITY}]", 8)}
        mov [edi + {_STRUCTURES}], eax
        cmp edi, {_NOTIFY - _STRUCTURES}
        jne step
        {config(f"[{_CAPABILITY}]", 16)}
        mov [{_MULTIPLIER}], eax
    step:
        mov eax, ebx
        shr eax, 8
        jmp walk
    walked:
        {_COMPLETE}
        {opening}
        {_put(_STATUS, 0)}
    resetting:
        {_get(_STATUS)}
        cmp al, 0
        jne resetting
        {_put(_STATUS, ACKNOWLEDGE)}
        {_put(_STATUS, ACKNOWLEDGE | DRIVER)}
        {_put(_FEATURE_SELECT, 0)}
        {_get(_FEATURE)}
        test eax, {FEATURE_FLUSH}
        je absent
        {_put(_FEATURE_SELECT, 1)}
        {_get(_FEATURE)}
        test eax, {FEATURE_VERSION_1}
        je absent
        {_put(_ACCEPT_SELECT, 0)}
        {_put(_ACCEPT, FEATURE_FLUSH)}
        {_put(_ACCEPT_SELECT, 1)}
        {_put(_ACCEPT, FEATURE_VERSION_1)}
        {_put(_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK)}
        {_get(_STATUS)}
        test al, {FEATURES_OK}
        je failed
        {_put(_QUEUE_SELECT, 0)}
        {_get(_QUEUE_SIZE)}
        cmp ax, {_ENTRIES}
        jb absent
        {_put(_QUEUE_SIZE, _ENTRIES)}
        mov dword [{SIZE}], {_ENTRIES}
        call forget
        mov dword [{AVAILABLE}], {_PLACES[1]}
        mov dword [{USED}], {_PLACES[2]}
        {"".join(map(_ring, _RINGS, _PLACES))}
        {_get(_NOTIFY_OFFSET)}
        imul eax, [{_MULTIPLIER}]
        add [{_NOTIFY}], eax
        {_put(_ENABLE, 1)}
        {_put(_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)}
        {_get((0, 4), _DEVICE)}
        mov [{LBA}], eax
        {_get((4, 4), _DEVICE)}
        mov [{LBA + 4}], eax
        ret

    notify:
        {_put((0, 2), 0, _NOTIFY)}
        ret

    interrupt:                              ; AL = why there was one, and forget it
        {_get((0, 1), _ISR)}
        ret
        {accesses}
        {REQUESTS}
    """


#: The window of memory is put somewhere.
_MAP: Final = f"""
        shl dword [{_BAR_NUMBER}], 2
        {config(f"[{_BAR_NUMBER}]", BAR)}
        and eax, 7
        cmp eax, 4                          ; memory, with addresses of 64 bits
        jne absent
        mov eax, {_MEMORY}
        out dx, eax
        {select(f"[{_BAR_NUMBER}]", BAR + 4)}
        mov eax, 0
        out dx, eax
        {set_config(COMMAND, MEMORY | USE_RAM)}
        {"".join(f"add dword [{each}], {_MEMORY}{chr(10)}" for each in (_COMMON, _NOTIFY, _ISR, _DEVICE))}
"""
_IN_MEMORY: Final = """
    get:
        cmp ecx, 2
        je get_word
        jb get_byte
        mov eax, [edi]
        ret
    get_word:
        mov ax, [edi]
        movzx eax, ax
        ret
    get_byte:
        mov al, [edi]
        ret

    put:
        cmp ecx, 2
        je put_word
        jb put_byte
        mov [edi], eax
        ret
    put_word:
        mov [edi], ax
        ret
    put_byte:
        mov [edi], al
        ret
"""

#: The window tells BAR, offset and size, and has the data behind those (4.1.4.9). Memory does not even have to be
#: enabled for it.
_OPEN: Final = f"""
        {set_config(COMMAND, USE_RAM)}
        {select(f"[{_WINDOW}]", 4)}
        mov al, [{_BAR_NUMBER}]
        out dx, al
"""
_BY_WINDOW: Final = f"""
    aim:
        {select(f"[{_WINDOW}]", 8)}
        mov eax, edi
        out dx, eax
        {select(f"[{_WINDOW}]", 12)}
        mov eax, ecx
        out dx, eax
        {select(f"[{_WINDOW}]", 16)}
        ret

    get:
        call aim
        cmp ecx, 2
        je get_word
        jb get_byte
        in eax, dx
        ret
    get_word:
        in ax, dx
        movzx eax, ax
        ret
    get_byte:
        in al, dx
        ret

    put:
        mov [{_VALUE}], eax
        call aim
        mov eax, [{_VALUE}]
        cmp ecx, 2
        je put_word
        jb put_byte
        out dx, eax
        ret
    put_word:
        out dx, ax
        ret
    put_byte:
        out dx, al
        ret
"""

#: Its structures are where real mode does not reach.
MODERN: Final = Driver("virtio", _driver(_MAP, _IN_MEMORY), modes=(32, 64))
WINDOW: Final = Driver("virtio", _driver(_OPEN, _BY_WINDOW))
