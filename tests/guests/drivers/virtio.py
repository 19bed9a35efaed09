"""virtio disks: requests in a split ring, and the legacy and the modern interface to it."""

from __future__ import annotations

from typing import Final

from tests.guests.drivers.driver import Driver, out
from tests.guests.drivers.pci import BAR, COMMAND, MEMORY, USE_RAM, config, enable_ports, search, set_config
from tests.guests.exerciser import COUNT, LBA, PLACE

#: Memory of a virtqueue, and variables: its entries, where its rings are, and how many chains there have been.
_QUEUE, _QUEUE_END = 0xC000, 0xF000
_SIZE, _AVAILABLE, _USED, _CHAINS = 0x630, 0x634, 0x638, 0x63C
#: A request's header and its status (virtio 1.2, 5.2.6), and what is expected to be written of its memory.
_HEADER, _RESULT, _WRITTEN = 0x900, 0x910, 0x640
_IN, _OUT, _FLUSH = 0, 1, 4
#: Descriptors of a chain, in their order: that of the header, of two halves of the data, and of the status.
_CHAIN: Final = (5, 2, 7, 0)
_NEXT, _DEVICE_WRITES = 1, 2
#: Feature bits, and those of the device's status.
_FEATURE_FLUSH, _FEATURE_VERSION_1 = 1 << 9, 1 << 0
_ACKNOWLEDGE, _DRIVER, _DRIVER_OK, _FEATURES_OK = 1, 2, 4, 8
#: How often is looked whether a request has ended.
_MOST_LOOKS: Final = 100_000


def _descriptor(number: int, address: str, length: int, flags: int, link: int) -> str:
    """Return lines that fill a descriptor."""
    at = _QUEUE + 16 * number
    return f"""
        mov eax, {address}
        mov [{at}], eax
        mov dword [{at + 4}], 0
        mov dword [{at + 8}], {length}
        mov dword [{at + 12}], {flags | link << 16}
    """


def _request(kind: int) -> str:
    """Return lines that make a request."""
    header, first, second, result = _CHAIN
    half, data, written = COUNT * 512 // 2, "", 1
    if kind != _FLUSH:
        flags = _NEXT | (_DEVICE_WRITES if kind == _IN else 0)
        data = _descriptor(first, f"[{PLACE}]", half, flags, second)
        data += _descriptor(second, f"[{PLACE}]", half, flags, result)
        data += f"add dword [{_QUEUE + 16 * second}], {half}\n"
        written += 2 * half if kind == _IN else 0
    else:
        first = result
    return f"""
        mov dword [{_HEADER}], {kind}
        mov dword [{_HEADER + 4}], 0
        mov eax, [{LBA}]
        mov [{_HEADER + 8}], eax
        mov eax, [{LBA + 4}]
        mov [{_HEADER + 12}], eax
        mov byte [{_RESULT}], 0xff
        mov dword [{_WRITTEN}], {written}
        {_descriptor(header, f"{_HEADER}", 16, _NEXT, first)}
        {data}
        {_descriptor(result, f"{_RESULT}", 1, _DEVICE_WRITES, 0)}
        call do
        ret
    """


_VIRTIO: Final = f"""
    read:
        {_request(_IN)}

    write:
        {_request(_OUT)}

    flush:
        mov dword [{LBA}], 0
        mov dword [{LBA + 4}], 0
        {_request(_FLUSH)}

    do:                                     ; make the chain available, and wait until it is used
        mov eax, [{_SIZE}]
        dec eax
        and eax, [{_CHAINS}]
        add eax, eax
        add eax, [{_AVAILABLE}]
        mov word [eax + 4], {_CHAIN[0]}
        inc dword [{_CHAINS}]
        mov eax, [{_CHAINS}]
        mov ebx, [{_AVAILABLE}]
        mov [ebx + 2], ax
        call notify
        mov ecx, {_MOST_LOOKS}
    look:
        in al, 0x80                         ; takes a while, and there is nothing
        dec ecx
        je failed
        call interrupt
        test al, 1
        je look
        mov ebx, [{_USED}]
        mov ax, [ebx + 2]
        cmp ax, [{_CHAINS}]
        jne failed
        mov eax, [{_CHAINS}]
        dec eax
        mov ecx, [{_SIZE}]
        dec ecx
        and eax, ecx
        shl eax, 3
        add ebx, eax
        cmp dword [ebx + 4], {_CHAIN[0]}
        jne failed
        mov eax, [ebx + 8]
        cmp eax, [{_WRITTEN}]
        jne failed
        mov al, [{_RESULT}]
        cmp al, 0
        jne failed
        ret

    forget:                                 ; clear the queue's memory
        mov edi, {_QUEUE}
        mov ecx, {(_QUEUE_END - _QUEUE) // 4}
        mov eax, 0
        rep stosd
        mov [{_CHAINS}], eax
        ret
"""

#: The legacy interface (virtio 1.2, 4.1.4.8): a window of ports.
_PORTS: Final = 0xC100
_OFFERED, _ACCEPTED, _ADDRESS, _ENTRIES = _PORTS, _PORTS + 4, _PORTS + 8, _PORTS + 12
_SELECT, _NOTIFY, _STATE, _ISR = _PORTS + 14, _PORTS + 16, _PORTS + 18, _PORTS + 19
_SPECIFIC: Final = _PORTS + 20

_LEGACY: Final = f"""
    setup:
        {search(0, 0, 0x10011AF4)}
        {enable_ports(0, _PORTS)}
        {out(_STATE, 0)}
        {out(_STATE, _ACKNOWLEDGE)}
        {out(_STATE, _ACKNOWLEDGE | _DRIVER)}
        mov edx, {_OFFERED}
        in eax, dx
        and eax, {_FEATURE_FLUSH}
        je absent
        mov edx, {_ACCEPTED}
        out dx, eax
        mov edx, {_SELECT}
        mov eax, 0
        out dx, ax
        mov edx, {_ENTRIES}
        in ax, dx
        movzx eax, ax
        cmp eax, 8
        jb absent
        mov [{_SIZE}], eax
        call forget
        mov edx, {_ADDRESS}
        mov eax, {_QUEUE >> 12}             ; a number of a page
        out dx, eax
        mov eax, [{_SIZE}]                  ; descriptors, and the ring of what is available
        shl eax, 4
        add eax, {_QUEUE}
        mov [{_AVAILABLE}], eax
        add eax, [{_SIZE}]
        add eax, [{_SIZE}]
        add eax, {6 + 4095}
        and eax, {-4096}                    ; in the next page, the one of what is used
        mov [{_USED}], eax
        {out(_STATE, _ACKNOWLEDGE | _DRIVER | _DRIVER_OK)}
        mov edx, {_SPECIFIC}
        in eax, dx
        mov [{LBA}], eax
        mov edx, {_SPECIFIC + 4}
        in eax, dx
        mov [{LBA + 4}], eax
        ret

    notify:
        mov edx, {_NOTIFY}
        mov eax, 0
        out dx, ax
        ret

    interrupt:                              ; AL = why there was one, and forget it
        mov edx, {_ISR}
        in al, dx
        ret
        {_VIRTIO}
"""

#: Where memory is that devices have: above RAM, and in what long mode maps here.
_VIRTIO_MEMORY: Final = 0x20000000
#: The modern interface (4.1.4): structures in memory, found by capabilities. Variables: where a capability is, the BAR
#: in which the structures are, what notifications are multiplied with, and addresses of structures by their types.
_CAPABILITY, _BAR_NUMBER, _MULTIPLIER, _STRUCTURES = 0x644, 0x648, 0x64C, 0x650
_COMMON, _NOTIFICATIONS, _WHY, _CONFIG = (_STRUCTURES + 4 * kind for kind in range(1, 5))
#: Rings that are no more aligned than they have to be, of few entries.
_MODERN_SIZE, _MODERN_AVAILABLE, _MODERN_USED = 8, 0xD402, 0xE404

_PRESENT: Final = "".join(f"cmp dword [{each}], 0\nje absent\n" for each in (_COMMON, _NOTIFICATIONS, _WHY, _CONFIG))

_MODERN: Final = f"""
    setup:
        {search(0, 0, 0x10011AF4)}
        {config(COMMAND)}
        test eax, 0x100000                  ; it has capabilities
        je absent
        mov edi, {_CAPABILITY}
        mov ecx, 8
        mov eax, 0
        rep stosd
        mov dword [{_BAR_NUMBER}], 0xff
        {config(0x34)}
        and eax, 0xfc
    walk:
        je walked
        mov [{_CAPABILITY}], eax
        {config(f"[{_CAPABILITY}]")}
        mov ebx, eax                        ; ID, next, length and type
        cmp al, 9
        jne step
        mov edi, eax
        shr edi, 24
        cmp edi, 5
        jae step
        add edi, edi
        add edi, edi
        {config(f"[{_CAPABILITY}]", 4)}
        and eax, 0xff
        cmp dword [{_BAR_NUMBER}], 0xff
        je first
        cmp eax, [{_BAR_NUMBER}]
        jne absent                          ; they are not in the same one
    first:
        mov [{_BAR_NUMBER}], eax
        {config(f"[{_CAPABILITY}]", 8)}
        add eax, {_VIRTIO_MEMORY}
        mov [edi + {_STRUCTURES}], eax
        cmp edi, {4 * 2}
        jne step
        {config(f"[{_CAPABILITY}]", 16)}
        mov [{_MULTIPLIER}], eax
    step:
        mov eax, ebx
        shr eax, 8
        and eax, 0xfc
        jmp walk
    walked:
        {_PRESENT}
        shl dword [{_BAR_NUMBER}], 2
        {config(f"[{_BAR_NUMBER}]", BAR)}
        and eax, 7
        cmp eax, 4                          ; memory, with addresses of 64 bits
        jne absent
        mov eax, {_VIRTIO_MEMORY}
        out dx, eax
        {config(f"[{_BAR_NUMBER}]", BAR + 4)}
        mov eax, 0
        out dx, eax
        {set_config(COMMAND, MEMORY | USE_RAM)}

        mov esi, [{_COMMON}]
        mov byte [esi + 0x14], 0
    resetting:
        mov al, [esi + 0x14]
        cmp al, 0
        jne resetting
        mov byte [esi + 0x14], {_ACKNOWLEDGE}
        mov byte [esi + 0x14], {_ACKNOWLEDGE | _DRIVER}
        mov dword [esi], 0
        mov eax, [esi + 4]
        test eax, {_FEATURE_FLUSH}
        je absent
        mov dword [esi], 1
        mov eax, [esi + 4]
        test eax, {_FEATURE_VERSION_1}
        je absent
        mov dword [esi + 8], 0
        mov dword [esi + 12], {_FEATURE_FLUSH}
        mov dword [esi + 8], 1
        mov dword [esi + 12], {_FEATURE_VERSION_1}
        mov byte [esi + 0x14], {_ACKNOWLEDGE | _DRIVER | _FEATURES_OK}
        mov al, [esi + 0x14]
        test al, {_FEATURES_OK}
        je failed
        mov word [esi + 0x16], 0            ; the first queue
        mov ax, [esi + 0x18]
        cmp ax, {_MODERN_SIZE}
        jb absent
        mov word [esi + 0x18], {_MODERN_SIZE}
        mov dword [{_SIZE}], {_MODERN_SIZE}
        call forget
        mov dword [{_AVAILABLE}], {_MODERN_AVAILABLE}
        mov dword [{_USED}], {_MODERN_USED}
        mov dword [esi + 0x20], {_QUEUE}
        mov dword [esi + 0x24], 0
        mov dword [esi + 0x28], {_MODERN_AVAILABLE}
        mov dword [esi + 0x2c], 0
        mov dword [esi + 0x30], {_MODERN_USED}
        mov dword [esi + 0x34], 0
        movzx eax, word [esi + 0x1e]
        imul eax, [{_MULTIPLIER}]
        add [{_NOTIFICATIONS}], eax
        mov word [esi + 0x1c], 1            ; the queue is enabled
        mov byte [esi + 0x14], {_ACKNOWLEDGE | _DRIVER | _FEATURES_OK | _DRIVER_OK}
        mov esi, [{_CONFIG}]
        mov eax, [esi]
        mov [{LBA}], eax
        mov eax, [esi + 4]
        mov [{LBA + 4}], eax
        ret

    notify:
        mov ebx, [{_NOTIFICATIONS}]
        mov word [ebx], 0
        ret

    interrupt:                              ; AL = why there was one, and forget it
        mov ebx, [{_WHY}]
        mov al, [ebx]
        ret
        {_VIRTIO}
"""

LEGACY: Final = Driver("virtio", _LEGACY)
#: Its structures are where real mode does not reach.
MODERN: Final = Driver("virtio", _MODERN, modes=(32, 64))
