"""Sections of a saved machine, written and read; nothing in a file is believed before it was checked."""

from __future__ import annotations

import json
import zlib
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import zstandard

from blockkit.emul.saved.schema import (
    HEADER_SIZE,
    MAX_GROWTH,
    MAX_JSON,
    MAX_PIECE,
    SECTION_SIZE,
    VERSION,
    Header,
    Section,
    SectionHeader,
)
from blockkit.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.buffers import Buffer

_LEVEL: Final = 1
_JSON: Final = (Section.STATE, Section.FILES)


class Piece(NamedTuple):
    """A section.

    Attributes:
        kind: What it is.
        number: Of a disk.
        offset: Where its bytes belong.
        data: Them, decompressed; none for zeros.
        plain: How many.
        at: Where the section begins in the file.
    """

    kind: Section
    number: int
    offset: int
    data: bytes
    plain: int
    at: int

    def tree(self) -> dict[str, Any]:
        """Return the JSON object in it.

        Raises:
            FormatError: there is none.
        """
        try:
            found = json.loads(self.data)
        except (ValueError, RecursionError) as error:
            raise FormatError("is not valid JSON", where=f"saved machine: {self.kind.name}", offset=self.at) from error
        if not isinstance(found, dict):
            raise FormatError("is no JSON object", where=f"saved machine: {self.kind.name}", offset=self.at)
        return found


class Writer:
    """Writes a saved machine.

    Args:
        file: Where.
        begun: Its first sections are there already.
    """

    def __init__(self, file: IO[bytes], *, begun: bool = False) -> None:
        self._file = file
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        if not begun:
            file.write(Header().build())

    def add(self, kind: Section, data: Buffer, *, number: int = 0, offset: int = 0) -> None:
        """Add a section with bytes."""
        stored = self._compressor.compress(data) if len(data) else b""
        self._file.write(_header(kind, number, offset, len(data), len(stored), zlib.crc32(data)) + stored)

    def add_zeros(self, number: int, offset: int, length: int) -> None:
        """Say that a part of a disk is zeros."""
        self._file.write(_header(Section.ZERO, number, offset, length, 0, 0))

    def add_json(self, kind: Section, value: dict[str, Any]) -> None:
        """Add a section with JSON."""
        self.add(kind, json.dumps(value, separators=(",", ":"), sort_keys=True).encode())

    def finish(self, files: dict[str, Any]) -> None:
        """Add the last two sections."""
        self.add_json(Section.FILES, files)
        self.add(Section.END, b"")
        self._file.flush()


def _header(kind: Section, number: int, offset: int, plain: int, stored: int, checksum: int) -> bytes:
    made = SectionHeader(
        kind=kind.value, number=number, offset=offset, plain=plain, stored=stored, checksum=checksum, own=0
    ).build()
    return made[:-4] + zlib.crc32(made[:-4]).to_bytes(4, "little")


def sections(file: IO[bytes]) -> Iterator[Piece]:
    """Yield all sections in order.

    Raises:
        FormatError: it is no saved machine, or is damaged.
    """
    header = Header.parse(file.read(HEADER_SIZE))
    if header.version != VERSION:
        raise FormatError(f"version {header.version}, expected {VERSION}", where=Header.title)
    decompressor = zstandard.ZstdDecompressor()
    at = HEADER_SIZE
    kind: Section | None = None
    while kind is not Section.END:
        piece, stored = _read(file, at, decompressor)
        if kind is None and piece.kind is not Section.STATE:
            raise FormatError("the first section is not the state", where=SectionHeader.title, offset=at)
        if kind is not None and piece.kind is Section.STATE:
            raise FormatError("there are two states", where=SectionHeader.title, offset=at)
        if (piece.kind is Section.END) != (kind is Section.FILES):
            raise FormatError("sections are not in order", where=SectionHeader.title, offset=at)
        yield piece
        at, kind = at + SECTION_SIZE + stored, piece.kind
    if file.read(1):
        raise FormatError("something comes after the end", where="saved machine", offset=at)


def _read(file: IO[bytes], at: int, decompressor: zstandard.ZstdDecompressor) -> tuple[Piece, int]:
    raw = file.read(SECTION_SIZE)
    header = SectionHeader.parse(raw, offset=at)
    if zlib.crc32(raw[:-4]) != header.own:
        raise FormatError("its checksum is wrong", where=SectionHeader.title, offset=at)
    try:
        kind = Section(header.kind)
    except ValueError:
        raise FormatError(f"unknown kind {header.kind!r}", where=SectionHeader.title, offset=at) from None
    where = f"saved machine: {kind.name}"
    if kind is Section.ZERO:
        if header.stored:
            raise FormatError(f"{header.stored} bytes stored, expected none", where=where, offset=at)
        return Piece(kind, header.number, header.offset, b"", header.plain, at), 0
    most = MAX_JSON if kind in _JSON else MAX_PIECE
    if header.plain > most or header.stored > header.plain + MAX_GROWTH or (header.stored == 0) != (header.plain == 0):
        raise FormatError(f"{header.stored} bytes for {header.plain}, expected at most {most}", where=where, offset=at)
    data = file.read(header.stored)
    if len(data) != header.stored:
        raise FormatError("the file ends in it", where=where, offset=at)
    try:
        if data and zstandard.frame_content_size(data) != header.plain:
            raise FormatError("its bytes are of another length than it says", where=where, offset=at)
        data = decompressor.decompress(data) if data else b""
    except zstandard.ZstdError as error:
        raise FormatError("its bytes cannot be decompressed", where=where, offset=at) from error
    if len(data) != header.plain or zlib.crc32(data) != header.checksum:
        raise FormatError("its checksum is wrong", where=where, offset=at)
    return Piece(kind, header.number, header.offset, data, header.plain, at), header.stored
