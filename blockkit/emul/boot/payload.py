"""What is compressed inside a kernel, by the magic numbers that boot.rst of Linux lists (payload_offset)."""

from __future__ import annotations

import bz2
import lzma
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Final

from blockkit.emul.boot import lz4
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes that come out at most, and those that a decoder may take for itself.
MOST: Final = 512 << 20
_MOST_OWN: Final = 256 << 20
_AS_GZIP: Final = 31


def _gzip(data: bytes) -> bytes:
    return zlib.decompressobj(_AS_GZIP).decompress(data, MOST + 1)


def _bzip2(data: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, MOST + 1)


def _lzma(data: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=_MOST_OWN).decompress(data, MOST + 1)


def _lz4(data: bytes) -> bytes:
    return lz4.decompress(data, MOST)


def _zstd(data: bytes) -> bytes:
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(BytesIO(data), read_across_frames=False)
    try:
        return reader.read(MOST + 1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


#: Formats by how they begin.
_FORMATS: Final[tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...]] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"BZh", "bzip2", _bzip2),
    (b"\x5d\0\0", "lzma", _lzma),
    (b"\xfd7zXZ", "xz", _lzma),
    (lz4.MAGIC, "lz4", _lz4),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"\x7fELF", "ELF", lambda data: data),
)


def unpack(data: bytes, *, slowly: bool) -> bytes | None:
    """Return what a payload holds.

    Args:
        data: It.
        slowly: Decompress also what there is no native code for here: LZ4.

    Returns:
        It, or None where it is to be left alone, or its format is none of those that are known here (LZO is not).

    Raises:
        EmulationError: it is damaged, or more than 512 MiB.
    """
    for magic, name, decompress in _FORMATS:
        if data.startswith(magic) and (slowly or magic != lz4.MAGIC):
            try:
                found = decompress(data)
            except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise EmulationError(
                    f"kernel: what is compressed in it ({name}) cannot be read here: {error};"
                    " kernel_decompress=guest leaves it to the guest"
                ) from error
            if len(found) > MOST:
                raise EmulationError(f"kernel: what is compressed in it ({name}) is more than {MOST >> 20} MiB")
            return found
    return None
