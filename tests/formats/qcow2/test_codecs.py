"""Compressed clusters: both codecs, rubbish behind them, and streams that mean harm."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from blockkit.errors import CorruptImageError, OptionError
from blockkit.formats.qcow2.codecs import codec_for

ZLIB, ZSTD = 0, 1
BOTH = pytest.mark.parametrize("kind", [ZLIB, ZSTD])


def raw_deflate(data: bytes, window: int = -15) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    return packer.compress(data) + packer.flush()


@given(st.sampled_from([ZLIB, ZSTD]), st.sampled_from([512, 4096, 65536]), st.integers(0, 99), st.binary(max_size=600))
def test_what_is_encoded_is_decoded_whatever_follows_it(kind: int, size: int, seed: int, rubbish: bytes) -> None:
    rng = random.Random(seed)
    piece = rng.randrange(1, size)
    data = (rng.randbytes(piece) * (size // piece + 1))[:size]
    codec = codec_for(kind)
    assert codec.decode(codec.encode(data) + rubbish, size) == data


@pytest.mark.parametrize("level", [None, 1, 9])
def test_deflate_never_looks_back_more_than_4_kib(level: int | None) -> None:
    data = random.Random(1).randbytes(5000) * 400
    encoded = codec_for(ZLIB, level).encode(data[: 2 << 20])
    assert zlib.decompressobj(-12).decompress(encoded) == data[: 2 << 20]


@BOTH
@pytest.mark.parametrize("data", [b"", b"\xff" * 512, bytes(512), b"\x28\xb5\x2f\xfd"])
def test_rubbish_is_a_corrupt_image(kind: int, data: bytes) -> None:
    with pytest.raises(CorruptImageError):
        codec_for(kind).decode(data, 65536)


@BOTH
def test_too_few_bytes_are_a_corrupt_image(kind: int) -> None:
    codec = codec_for(kind)
    with pytest.raises(CorruptImageError):
        codec.decode(codec.encode(bytes(1000)), 4096)


@BOTH
def test_a_stream_that_is_cut_is_a_corrupt_image(kind: int) -> None:
    codec = codec_for(kind)
    encoded = codec.encode(random.Random(2).randbytes(4096))
    with pytest.raises(CorruptImageError):
        codec.decode(encoded[: len(encoded) // 2], 4096)


def bombs() -> list[tuple[str, int, bytes]]:
    size = 64 << 20
    unknown = zstandard.ZstdCompressor(write_content_size=False)
    return [
        ("deflate", ZLIB, raw_deflate(bytes(size))),
        ("zstd that says so", ZSTD, zstandard.compress(bytes(size))),
        ("zstd that does not", ZSTD, unknown.compress(bytes(size))),
        ("zstd claims 2**62", ZSTD, b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + bytes(64)),
        # A window descriptor of 2**31 bytes, no content size.
        ("zstd window", ZSTD, b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(64)),
    ]


def test_bombs_cost_no_more_than_a_cluster() -> None:
    found = bombs()
    codec_for(ZLIB), codec_for(ZSTD)
    for name, kind, data in found:
        tracemalloc.start()
        try:
            decoded = codec_for(kind).decode(data, 65536)
        except CorruptImageError:
            pass
        else:
            assert decoded == bytes(65536), name
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20, (name, peak)


def test_levels_outside_the_library_s_are_refused() -> None:
    for kind, level in ((ZLIB, 0), (ZLIB, 10), (ZSTD, 0), (ZSTD, 23)):
        with pytest.raises(OptionError):
            codec_for(kind, level)
