"""What a machine is to be made of, as values: read from text here, built in :mod:`blockkit.emul.build`."""

from __future__ import annotations

import os
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from blockkit.block.node import Node
from blockkit.emul.disk import LATENCIES, OnError
from blockkit.errors import OptionError
from blockkit.frozen import Frozen
from blockkit.options import Tree, build, nest, parse_dotted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blockkit.block.policy import ImplicitPolicy

#: What a disk may be behind.
Interface = Literal["virtio", "ide", "cdrom"]
MEMORY: Final = 256 << 20
_LEAST, _MOST = 1 << 20, 1 << 40
_PAGE: Final = 4096
#: QEMU's words for some options.
_OTHER_NAMES: Final = {"if": "interface", "readonly": "read_only"}
_MOST_SERIAL: Final = 20


class DriveConfig(Frozen):
    """One disk, and what it is behind.

    Attributes:
        image: What holds it: a node, or what :func:`blockkit.open_image` opens.
        format: Its format; guessed without one.
        options: More options of its format.
        interface: What the guest finds it behind.
        read_only: Writes are refused.
        snapshot: What is written goes to a temporary overlay, and is gone at the end.
        serial: Its serial number.
        on_error: What becomes of requests that the host cannot do: ``report``, ``stop`` or ``ignore``.
        latency: How long requests take: ``constant``, ``ssd`` or ``hdd``.
        cache: As for :func:`blockkit.open_image`.
        write_through: Each write is durable before the guest learns that it is done.
    """

    image: Any
    format: str | None = None
    options: Tree = field(default_factory=dict)
    interface: Interface = "virtio"
    read_only: bool = False
    snapshot: bool = False
    serial: str = ""
    on_error: Literal["report", "stop", "ignore"] = "report"
    latency: Literal["constant", "ssd", "hdd"] = "ssd"
    cache: str = "writeback"
    write_through: bool = False

    def __post_init__(self) -> None:
        if len(self.serial) > _MOST_SERIAL or not self.serial.isascii() or not self.serial.isprintable():
            raise OptionError(f"drive: serial {self.serial[:40]!r} is not up to {_MOST_SERIAL} characters of ASCII")
        OnError(self.on_error), LATENCIES[self.latency]

    @property
    def name(self) -> str:
        """What to call it in messages."""
        if isinstance(self.image, Node):
            return str(self.image)
        if isinstance(self.image, str | os.PathLike):
            return os.fspath(self.image)
        file = self.image.get("file", self.image)
        return str(file.get("filename", file.get("driver", "disk"))) if isinstance(file, dict) else str(file)


#: What an option of ``--drive`` means, where it is not one of the image's.
_OWN: Final = frozenset(
    ("interface", "read_only", "snapshot", "serial", "on_error", "latency", "cache", "write_through", "format")
)


def parse_drive(text: str, **defaults: Any) -> DriveConfig:
    """Read ``file=disk.qcow2,if=virtio,...``; what is no option of the drive is one of the image.

    Args:
        text: As typed: options with commas between them.
        **defaults: Of what ``text`` does not say.

    Raises:
        OptionError: an option means nothing, or no image is named.
    """
    return drive_from(parse_dotted(text), **defaults)


def drive_from(tree: Mapping[str, Any], **defaults: Any) -> DriveConfig:
    """Return a drive from a tree of the options that :func:`parse_drive` takes."""
    own: Tree = {}
    rest: Tree = {}
    for key, value in nest(tree).items():
        name = _OTHER_NAMES.get(key, key)
        (own if name in _OWN else rest)[name] = value
    if rest.pop("media", "disk") == "cdrom":
        own["interface"] = "cdrom"
    file = rest.pop("file", None)
    image: Any
    if isinstance(file, str | os.PathLike):
        image = file
    elif file is not None or "driver" in rest:
        image, rest = {**rest, **({"file": file} if file is not None else {})}, {}
    else:
        raise OptionError("drive: no image is named: expected file=NAME")
    return replace(build(DriveConfig, {**defaults, **own, "image": image}, "drive"), options=rest)


class MachineConfig(Frozen):
    """A whole machine.

    Attributes:
        memory: Bytes of RAM.
        accelerator: ``auto``, ``kvm``, ``jit`` or ``python``.
        cpu: What CPUID tells: ``base`` or ``max``, and features with + or - behind it: ``base,+aes,-rdrand``. Without,
            ``base``, but with KVM what the host can do.
        drives: Its disks, in the order they are looked for something to start.
        kernel: A bzImage or an ELF that is started without firmware.
        initrd: Its initial RAM disk.
        append: Its command line.
        kernel_decompress: Who decompresses what is in a bzImage: the ``host``, which starts it at the address it is
            linked for, without KASLR; the ``guest``, as when firmware starts it; ``auto``: whoever is faster, by the
            format: the guest for LZ4 and LZO.
        firmware: ``auto`` (Debian's SeaBIOS where it is installed, the built-in one elsewhere), ``builtin``,
            ``seabios``, or the name of a ROM's file.
        vga: ``none`` or ``text``.
        hpet: It has high precision event timers.
        start: What time it is at the beginning, as ISO 8601.
        realtime: Virtual time follows that of the host while the machine idles, rather than jumping.
        seed: Of what is random in the machine: what RDRAND gives (but with KVM, which has the host's), and what Linux's
            random number generator is given when it is started without firmware, by other ways than PVH.
        reboot: A reset starts the machine again, rather than ending it.
        policy: Which files images may name.
    """

    memory: int = MEMORY
    accelerator: str = "auto"
    cpu: str | None = None
    drives: tuple[DriveConfig, ...] = ()
    kernel: str | None = None
    initrd: str | None = None
    append: str = ""
    kernel_decompress: Literal["auto", "host", "guest"] = "auto"
    firmware: str = "auto"
    vga: Literal["none", "text"] = "text"
    hpet: bool = False
    start: str = "2026-01-01T00:00:00+00:00"
    realtime: bool = False
    seed: int = 0
    reboot: bool = True
    policy: ImplicitPolicy | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 64:
            raise OptionError(f"seed: {f'{self.seed:#x}'[:40]}, expected a number of up to 64 bits, not negative")
        if not _LEAST <= self.memory <= _MOST or self.memory % _PAGE:
            raise OptionError(f"memory: {self.memory} bytes, expected from 1 MiB to 1 TiB, in units of 4 KiB")
        if self.kernel is None and (self.initrd is not None or self.append):
            raise OptionError("an initrd and a command line are for a kernel: none is given")
        if self.kernel_decompress not in ("auto", "host", "guest"):
            raise OptionError(f"kernel_decompress: {self.kernel_decompress!r} is none of auto, host, guest")
        if self.kernel is None and self.kernel_decompress != "auto":
            raise OptionError("who decompresses a kernel has no meaning: none is given")
        if self.vga not in ("none", "text"):
            raise OptionError(f"vga: {self.vga!r} is neither none nor text")
