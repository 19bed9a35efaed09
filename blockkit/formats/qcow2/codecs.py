"""Compressed clusters: raw deflate and zstd, each cluster on its own [qcow2, "Compressed Clusters Descriptor"].

All engines give the interpreter's lock up while they work, so worker threads scale.
"""

from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from blockkit.errors import CorruptImageError, OptionError
from blockkit.formats.qcow2.schema import CompressionType

if TYPE_CHECKING:
    from blockkit.block.buffers import Buffer

#: The window every reader of the format has: 4 KiB.
_WINDOW_BITS = -12
#: isal's own level: on real files 9 % larger than zlib's default and ten times as fast. Level 3 gains another 1.5 %
#: for two and a half times the time.
_ISAL_LEVEL = 2
_ZSTD_LEVEL = 3
#: What a deflate takes: zlib documents 256 KiB, the others less than twice that.
_DEFLATE_MEMORY = 512 << 10
#: No cluster is larger than 2 MiB, so no frame needs a larger window than this.
_ZSTD_MAX_WINDOW = 8 << 20


class Codec(Protocol):
    """Encodes and decodes one cluster at a time; safe to use from many threads."""

    def encode(self, data: Buffer) -> bytes:
        """Compress ``data``."""
        ...

    def memory(self, length: int) -> int:
        """Return the bytes that the library takes to compress ``length`` bytes, for each thread that does."""
        ...

    def decode(self, data: bytes, length: int) -> bytes:
        """Return the ``length`` bytes that ``data``, perhaps followed by rubbish, stands for.

        Raises:
            CorruptImageError: ``data`` is damaged or stands for fewer bytes, or for more where that can be told.
        """
        ...


def codec_for(kind: int, level: int | None = None) -> Codec:
    """Return the codec of a compression type.

    Args:
        kind: A :class:`~blockkit.formats.qcow2.schema.CompressionType`.
        level: None for the fast default; else the library's own level: 1 to 9 for zlib, 1 to 22 for zstd.
    """
    if kind == CompressionType.ZSTD:
        return _Zstd(_ZSTD_LEVEL if level is None else _in_range(level, 1, 22))
    return _Deflate(None if level is None else _in_range(level, 1, 9))


def _in_range(level: int, low: int, high: int) -> int:
    if not low <= level <= high:
        raise OptionError(f"compression_level is {level}, not from {low} to {high}")
    return level


class _Deflate:
    """Raw deflate.

    isal compresses when speed matters, zlib-ng when a level was asked for (level 6 is 2 % larger than zlib's and two
    and a half times as fast); zlib stands in for either.
    """

    def __init__(self, level: int | None) -> None:
        self._inflate: Any = _module("isal.isal_zlib")
        if level is None and self._inflate is not zlib:
            self._engine, self._level = self._inflate, _ISAL_LEVEL
        else:
            self._engine, self._level = _module("zlib_ng.zlib_ng"), 6 if level is None else level

    def encode(self, data: Buffer) -> bytes:
        compressor = self._engine.compressobj(self._level, zlib.DEFLATED, _WINDOW_BITS, 9)
        encoded: bytes = compressor.compress(data) + compressor.flush()
        return encoded

    def memory(self, length: int) -> int:
        return _DEFLATE_MEMORY

    def decode(self, data: bytes, length: int) -> bytes:
        try:
            # -15 reads every smaller window too; max_length stops a bomb after one cluster.
            decoded: bytes = self._inflate.decompressobj(-15).decompress(data, length)
        except (zlib.error, self._inflate.error) as error:
            raise CorruptImageError(f"cannot be inflated: {error}", where="qcow2 compressed cluster") from error
        if len(decoded) != length:
            raise CorruptImageError(
                f"inflates to {len(decoded)} bytes, not to the {length} of a cluster", where="qcow2 compressed cluster"
            )
        return decoded


def _module(name: str) -> Any:
    """Import a faster zlib, or return the standard library's where there is no wheel of it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        return zlib


class _Zstd:
    """One zstd frame; contexts are kept for each thread, as they cost more to make than a cluster to compress."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()

    def encode(self, data: Buffer) -> bytes:
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:
            import zstandard

            compressor = self._local.compressor = zstandard.ZstdCompressor(level=self._level, write_checksum=False)
        encoded: bytes = compressor.compress(data)
        return encoded

    def memory(self, length: int) -> int:
        import zstandard

        parameters = zstandard.ZstdCompressionParameters.from_level(self._level, source_size=length)
        return parameters.estimated_compression_context_size()

    def decode(self, data: bytes, length: int) -> bytes:
        import zstandard

        decompressor = getattr(self._local, "decompressor", None)
        if decompressor is None:
            decompressor = self._local.decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
        try:
            size = zstandard.frame_content_size(data)
            if size >= 0 and size != length:
                raise CorruptImageError(
                    f"stands for {size} bytes, not for the {length} of a cluster", where="qcow2 compressed cluster"
                )
            decoded = bytes(decompressor.decompress(data, max_output_size=length))
        except zstandard.ZstdError as error:
            raise CorruptImageError(f"cannot be decompressed: {error}", where="qcow2 compressed cluster") from error
        if len(decoded) != length:
            raise CorruptImageError(
                f"stands for {len(decoded)} bytes, not for the {length} of a cluster",
                where="qcow2 compressed cluster",
            )
        return decoded
