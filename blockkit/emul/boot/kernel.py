"""A kernel as it is put into memory, whatever file it came in."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from blockkit.block.zeros import zero_fill
from blockkit.cpu import state
from blockkit.emul.boot import elf, entry, layout, linux, pvh
from blockkit.emul.boot.bzimage import read_bzimage
from blockkit.emul.boot.elf import Elf, Segment, read_elf
from blockkit.emul.boot.payload import unpack
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.emul.boot.bzimage import BzImage

    #: Who decompresses what is in a bzImage: ``host``, if the format is known here; ``guest``, as with firmware;
    #: ``auto``: the host, if that costs less than letting native code of the guest do it.
    Decompress = Literal["auto", "host", "guest"]

#: The highest addresses of an initrd for kernels that do not say: what they map at first.
_INITRD_32, _INITRD_64 = 0x37FFFFFF, 0x7FFFFFFF
#: The characters of a command line for kernels that do not say.
_CHARACTERS: Final = 2047
_PAGE: Final = 4096


class Entry(enum.Enum):
    """How a kernel is entered."""

    LINUX_32 = "Linux's boot protocol of 32 bits"
    LINUX_64 = "Linux's boot protocol of 64 bits"
    PVH = "PVH"


class Kernel(NamedTuple):
    """A kernel.

    Attributes:
        segments: What is put where, by address.
        how: How it is entered.
        at: Where, as a physical address.
        top: The first address above it that it does not use while it starts.
        setup: Linux's header, and what comes before it.
        initrd_limit: The highest address an initrd may have.
        command_line_limit: Characters of its command line at most.
    """

    segments: list[Segment]
    how: Entry
    at: int
    top: int
    setup: bytes
    initrd_limit: int
    command_line_limit: int


def read_kernel(data: bytes, decompress: Decompress = "auto") -> Kernel:
    """Read a bzImage or an ELF.

    Args:
        data: The file.
        decompress: Who decompresses what is in a bzImage.

    Raises:
        EmulationError: it is neither, or is damaged.
    """
    if data.startswith(elf.MAGIC):
        return _from_elf(read_elf(data))
    image = read_bzimage(data)
    inside = None if decompress == "guest" else unpack(image.payload, slowly=decompress == "host")
    if inside is not None and inside.startswith(elf.MAGIC):
        return _from_payload(read_elf(inside), image)
    code = Segment(layout.KERNEL, memoryview(image.code), len(image.code))
    return Kernel([code], Entry.LINUX_32, layout.KERNEL, image.top, image.setup, image.initrd_limit, image.characters)


def _from_elf(found: Elf) -> Kernel:
    """Return a kernel that comes without Linux's header; entered as Linux is if it has no note of PVH."""
    limit = _INITRD_64 if found.is_64 else _INITRD_32
    at = pvh.entry(found)
    if at is None:
        return _checked(Kernel(found.segments, _linux_entry(found), found.entry, 0, linux.header(), limit, _CHARACTERS))
    return _checked(Kernel(found.segments, Entry.PVH, at, 0, b"", limit, _CHARACTERS))


def _from_payload(found: Elf, image: BzImage) -> Kernel:
    """Return the kernel that was in a bzImage, which is never relocated: no addresses of it have to be changed."""
    how, limit = _linux_entry(found), image.initrd_limit
    return _checked(Kernel(found.segments, how, found.entry, image.top, image.setup, limit, image.characters))


def _linux_entry(found: Elf) -> Entry:
    return Entry.LINUX_64 if found.is_64 else Entry.LINUX_32


def _checked(kernel: Kernel) -> Kernel:
    """Return a kernel with its real top, if it lies where kernels may and is entered within itself."""
    first, last = kernel.segments[0], kernel.segments[-1]
    if first.address < layout.KERNEL:
        raise EmulationError(f"kernel: a segment at {first.address:#x}, expected 1 MiB or above")
    if not any(0 <= kernel.at - each.address < each.size for each in kernel.segments):
        raise EmulationError(f"kernel: it is entered at {kernel.at:#x}, where it has nothing ({kernel.how.value})")
    return kernel._replace(top=max(kernel.top, last.address + last.size))


def load(
    memory: memoryview,
    kernel: Kernel,
    command_line: str,
    initrd: bytes,
    usable: Sequence[tuple[int, int]],
    rsdp: int,
    seed: bytes,
) -> list[int]:
    """Put a kernel into memory, and what it is told.

    Args:
        memory: From address 0, 1 MiB at least.
        kernel: It.
        command_line: Its command line.
        initrd: Its initial RAM disk, or nothing.
        usable: Addresses and sizes of RAM.
        rsdp: Where ACPI's tables begin.
        seed: Random bytes for its random number generator, if there is a way to tell it (PVH has none).

    Returns:
        The state in which the processor begins.

    Raises:
        EmulationError: something does not fit.
    """
    for segment in kernel.segments:
        end = segment.address + segment.size
        if end > len(memory):
            raise EmulationError(f"kernel: it needs memory up to {end:#x}, of {len(memory):#x} bytes")
        data_end = segment.address + len(segment.data)
        memory[segment.address : data_end] = segment.data
        zero_fill(memory[data_end:end])
    place = 0
    if initrd:
        place = min(len(memory), kernel.initrd_limit + 1) - len(initrd) & -_PAGE
        if place < kernel.top:
            raise EmulationError(f"initrd: {len(initrd)} bytes do not fit into {len(memory)} bytes of memory")
        memory[place : place + len(initrd)] = initrd
    try:
        line = command_line.encode("utf-8", "surrogateescape") + b"\0"
    except UnicodeEncodeError as error:
        raise EmulationError(f"command line: character {error.start}: {error.reason}") from error
    if b"\0" in line[:-1] or len(line) > min(kernel.command_line_limit + 1, layout.COMMAND_LINE_SIZE):
        raise EmulationError(f"command line: {len(line) - 1} bytes, expected {kernel.command_line_limit} at most")
    memory[layout.COMMAND_LINE : layout.COMMAND_LINE + len(line)] = line
    told = (place, len(initrd)), usable, rsdp
    if kernel.how is Entry.PVH:
        slots = entry.protected(memory, kernel.at)
        slots[state.RBX] = pvh.write(memory, *told)
        return slots
    slots = (entry.long if kernel.how is Entry.LINUX_64 else entry.protected)(memory, kernel.at)
    slots[state.RSI] = linux.write(memory, kernel.setup, *told, seed)
    return slots
