"""A whole machine, saved to a file and brought back."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from blockkit import __version__
from blockkit.block.zeros import is_zero, zero_fill
from blockkit.cpu import state
from blockkit.emul.saved import disks
from blockkit.emul.saved.file import Piece, Writer, sections
from blockkit.emul.saved.schema import MAX_PIECE, Section
from blockkit.errors import EmulationError, FormatError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blockkit.emul.build import Built

#: Times at which something happens that are waited for until no request is under way.
_PATIENCE: Final = 1_000_000
_WORD: Final = (1 << 64) - 1


class Savable(Protocol):
    """A device that can be saved."""

    def save(self) -> dict[str, Any]:
        """Return all there is to know of it, as JSON has it."""
        ...

    def load(self, saved: dict[str, Any]) -> None:
        """Become what was saved."""
        ...


def settle(built: Built) -> None:
    """Let time pass, with the processor standing still, until no request is under way.

    Raises:
        EmulationError: they do not come to an end.
    """
    pc = built.pc
    if any(drive.disk.failures for drive in built.drives):
        raise EmulationError("the machine cannot be saved: requests have failed, and wait for it to go on")
    for _ in range(_PATIENCE):
        at = pc.clock.deadline()
        if not any(drive.disk.pending for drive in built.drives):
            return
        if at is None:
            break
        pc.cpu.skip(max(0, at - pc.clock.now()))
        pc.clock.fire()
    raise EmulationError("the machine cannot be saved: requests are under way that do not come to an end")


def _devices(built: Built) -> Mapping[str, Savable]:
    return built.pc.devices()


def describe(built: Built) -> dict[str, Any]:
    """Return everything but memory and disks."""
    return {
        "blockkit": __version__,
        "memory": built.config.memory,
        "executed": built.pc.cpu.executed,
        "cpu": [f"{slot:x}" for slot in built.pc.cpu.get_state()],
        "devices": {name: device.save() for name, device in _devices(built).items()},
        "drives": [disks.describe(drive) for drive in built.drives],
    }


def fingerprint(built: Built) -> str:
    """Return a hash of the processor, the devices and the memory: equal for machines that are in the same state."""
    found = describe(built)
    for name in ("blockkit", "drives"):
        del found[name]
    # It follows from the others, and is not always written down yet.
    found["cpu"][state.MODE] = ""
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    for offset, piece in _memory(built):
        digest.update(offset.to_bytes(8, "little") + piece)
    return digest.hexdigest()


def _memory(built: Built) -> Iterator[tuple[int, memoryview]]:
    """Yield the pieces of RAM that are not zero."""
    ram = built.pc.ram
    for offset in range(0, len(ram), MAX_PIECE):
        piece = ram[offset : offset + MAX_PIECE]
        if not is_zero(piece):
            yield offset, piece


def save(built: Built, path: str) -> None:
    """Write a machine to a file, which appears under its name when it is complete.

    Raises:
        EmulationError: requests do not come to an end.
        BlockkitError: a disk cannot be flushed, or the file cannot be written.
    """
    settle(built)
    for drive in built.drives:
        drive.node.flush()
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            _write(built, Writer(file))
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        if os.path.exists(part):
            os.unlink(part)


def _write(built: Built, writer: Writer) -> None:
    writer.add_json(Section.STATE, describe(built))
    for offset, piece in _memory(built):
        writer.add(Section.RAM, piece, offset=offset)
    for number, drive in enumerate(built.drives):
        if drive.config.snapshot and not drive.disk.read_only:
            for offset, data, length in disks.written(drive.node):
                if data is None:
                    writer.add_zeros(number, offset, length)
                else:
                    writer.add(Section.DISK, data, number=number, offset=offset)
    writer.finish(disks.states(built.drives))


def refresh(path: str, names: dict[str, list[str]]) -> None:
    """Note anew what the files under the disks are like, which were closed without anything having run since.

    Args:
        path: The saved machine.
        names: What :func:`blockkit.emul.saved.disks.paths` gave before they were closed.
    """
    with _opened(path, "r+b") as file:
        at = next(piece.at for piece in sections(file) if piece.kind is Section.FILES)
        file.seek(at)
        file.truncate()
        Writer(file, begun=True).finish(disks.states_of(names))


@contextmanager
def _opened(path: str, mode: str) -> Iterator[IO[bytes]]:
    """Open a saved machine; its errors say which it is."""
    try:
        with open(path, mode) as file:
            yield file
    except OSError as error:
        raise from_os_error(error, path) from error
    except FormatError as error:
        raise error.in_image(path) from None


def load(built: Built, path: str, *, force: bool = False) -> None:
    """Make a machine what it was when it was saved.

    If this fails, the machine is not to be used.

    Args:
        built: A machine made of the same parts.
        path: The file.
        force: Go on although disks have been changed since.

    Raises:
        FormatError: the file is no saved machine, is damaged, or is of a machine that is made of other parts.
        EmulationError: disks have been changed.
        NodeError: it cannot be read.
    """
    with _opened(path, "rb") as file:
        pieces = sections(file)
        saved = next(pieces).tree()
        _check(built, saved)
        _put_back(built, pieces, force)
        _restore(built, saved)


def _check(built: Built, saved: dict[str, Any]) -> None:
    if saved.get("memory") != built.config.memory:
        raise FormatError(f"the machine had {saved.get('memory')!r} bytes of memory, not {built.config.memory}")
    drives, devices, cpu = saved.get("drives"), saved.get("devices"), saved.get("cpu")
    if not isinstance(drives, list) or not isinstance(devices, dict) or not isinstance(cpu, list):
        raise FormatError("parts of the state are missing", where="saved machine")
    for text in disks.differences(drives, built.drives):
        raise FormatError(text)
    here = set(_devices(built))
    if set(devices) != here:
        odd = ", ".join(sorted(map(str, set(devices) ^ here))[:5])
        raise FormatError(f"the machine had other devices: {odd}")


def _put_back(built: Built, pieces: Iterator[Piece], force: bool) -> None:
    ram = built.pc.ram
    zero_fill(ram)
    for piece in pieces:
        if piece.kind is Section.RAM:
            if piece.offset + piece.plain > len(ram):
                raise FormatError("memory lies outside the machine's", where="saved machine: RAM", offset=piece.at)
            ram[piece.offset : piece.offset + piece.plain] = piece.data
        elif piece.kind in (Section.DISK, Section.ZERO):
            data = piece.data if piece.kind is Section.DISK else None
            disks.put_back(built.drives, piece.number, piece.offset, data, piece.plain)
        elif piece.kind is Section.FILES and not force:
            for text in disks.changes(piece.tree(), built.drives):
                raise EmulationError(f"{text}; --force-load (force=True) goes on all the same")


def _restore(built: Built, saved: dict[str, Any]) -> None:
    pc = built.pc
    try:
        slots = [int(slot, 16) for slot in saved["cpu"]]
        executed = int(saved["executed"])
        if len(slots) != state.SLOTS or not all(0 <= slot <= _WORD for slot in slots) or not 0 <= executed <= _WORD:
            raise ValueError("state of a processor")
        pc.cpu.set_state(slots)
        pc.cpu.skip(max(0, executed - pc.cpu.executed))
        for name, device in _devices(built).items():
            device.load(saved["devices"][name])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise FormatError(f"{type(error).__name__} in the state", where="saved machine: STATE") from error
    pc.cpu.memory_map_changed()
