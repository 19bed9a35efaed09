"""What instructions do that is more than a few operations, in the dialect of :mod:`blockkit.cpu.dialect`."""

from __future__ import annotations

from typing import Final

#: All modules; what one calls is in another of them.
MODULES: Final = tuple(
    f"blockkit.cpu.system.{name}"
    for name in (
        "availability",
        "checksum",
        "ciphers",
        "control",
        "decimal",
        "delivery",
        "descriptors",
        "flags",
        "frames",
        "identity",
        "paging",
        "ports",
        "registers",
        "returns",
        "segments",
        "softfloat_32",
        "softfloat_64",
        "softfloat_arithmetic",
        "softfloat_compare",
        "softfloat_convert",
        "softfloat_round",
        "stacks",
        "strings",
        "syscalls",
        "tables",
        "tasks",
        "transfers",
        "simd",
        "texts",
        "vectors",
        "x87_arithmetic",
        "x87_convert",
        "x87_environment",
        "x87_functions",
        "x87_logarithms",
        "x87_operations",
        "x87_round",
        "x87_scale",
        "x87_stack",
        "x87_transfers",
        "x87_trigonometry",
        "x87_wide",
    )
)
