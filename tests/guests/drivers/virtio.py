"""virtio disks: requests in a split ring, and the legacy interface to it."""

from __future__ import annotations

from typing import Final

from tests.guests.drivers.driver import Driver, out
from tests.guests.drivers.pci import enable_ports, search
from tests.guests.exerciser import COUNT, LBA, PLACE

#: Memory of a virtqueue, and variables: its entries, where its rings are, and how many chains there have been.
QUEUE, _QUEUE_END = 0xC000, 0xF000
SIZE, AVAILABLE, USED, _CHAINS = 0x630, 0x634, 0x638, 0x63C
#: A request's header and its status (virtio 1.2, 5.2.6), and what is expected to be written of its memory.
_HEADER, _RESULT, _WRITTEN = 0x900, 0x910, 0x640
_IN, _OUT, _FLUSH = 0, 1, 4
#: Descriptors of a chain, in their order: that of the header, of two halves of the data, and of the status.
_CHAIN: Final = (5, 2, 7, 0)
_NEXT, _DEVICE_WRITES = 1, 2
#: Feature bits, and those of the device's status.
FEATURE_FLUSH, FEATURE_VERSION_1 = 1 << 9, 1 << 0
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8


def _descriptor(number: int, address: str, length: int, flags: int, link: int) -> str:
    """Return lines that fill a descriptor."""
    at = QUEUE + 16 * number
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
        data += f"add dword [{QUEUE + 16 * second}], {half}\n"
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


REQUESTS: Final = f"""
    read:
        {_request(_IN)}

    write:
        {_request(_OUT)}

    flush:
        mov dword [{LBA}], 0
        mov dword [{LBA + 4}], 0
        {_request(_FLUSH)}

    do:                                     ; make the chain available, and wait until it is used
        mov eax, [{SIZE}]
        dec eax
        and eax, [{_CHAINS}]
        add eax, eax
        add eax, [{AVAILABLE}]
        mov word [eax + 4], {_CHAIN[0]}
        inc dword [{_CHAINS}]
        mov eax, [{_CHAINS}]
        mov ebx, [{AVAILABLE}]
        mov [ebx + 2], ax
        call notify
    look:                                   ; whoever runs this bounds the time: a busy host's flush takes a while
        in al, 0x80                         ; takes a while, and there is nothing
        call interrupt
        test al, 1
        je look
        mov ebx, [{USED}]
        mov ax, [ebx + 2]
        cmp ax, [{_CHAINS}]
        jne look                            ; an interrupt may come twice for what was before
        mov eax, [{_CHAINS}]
        dec eax
        mov ecx, [{SIZE}]
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
        mov edi, {QUEUE}
        mov ecx, {(_QUEUE_END - QUEUE) // 4}
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
        {out(_STATE, ACKNOWLEDGE)}
        {out(_STATE, ACKNOWLEDGE | DRIVER)}
        mov edx, {_OFFERED}
        in eax, dx
        and eax, {FEATURE_FLUSH}
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
        mov [{SIZE}], eax
        call forget
        mov edx, {_ADDRESS}
        mov eax, {QUEUE >> 12}             ; a number of a page
        out dx, eax
        mov eax, [{SIZE}]                  ; descriptors, and the ring of what is available
        shl eax, 4
        add eax, {QUEUE}
        mov [{AVAILABLE}], eax
        add eax, [{SIZE}]
        add eax, [{SIZE}]
        add eax, {6 + 4095}
        and eax, {-4096}                    ; in the next page, the one of what is used
        mov [{USED}], eax
        {out(_STATE, ACKNOWLEDGE | DRIVER | DRIVER_OK)}
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
        {REQUESTS}
"""

LEGACY: Final = Driver("virtio", _LEGACY)
