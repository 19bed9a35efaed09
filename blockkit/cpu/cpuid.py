"""What CPUID tells of the processor (SDM volume 2, CPUID): x86-64-v2 with a few things that systems like."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.reset import SIGNATURE
from blockkit.errors import OptionError

#: The bits of physical and of linear addresses.
PHYSICAL_BITS, LINEAR_BITS = 40, 48
#: The last leaf of each range.
LAST_BASIC, LAST_EXTENDED, LAST_HYPERVISOR = 0xB, 0x80000008, 0x40000000
#: Who made it, and who runs it.
VENDOR: Final = b"GenuineIntel"
HYPERVISOR: Final = b"BlockkitVCPU"
BRAND: Final = b"blockkit virtual CPU"

_FEATURES_1_C: Final = {
    "SSE3": 0, "SSSE3": 9, "CMPXCHG16B": 13, "SSE4.1": 19, "SSE4.2": 20, "MOVBE": 22, "POPCNT": 23, "RDRAND": 30,
    "HYPERVISOR": 31,
}  # fmt: skip
_FEATURES_1_D: Final = {
    "FPU": 0, "DE": 2, "PSE": 3, "TSC": 4, "MSR": 5, "PAE": 6, "MCE": 7, "CX8": 8, "APIC": 9, "SEP": 11, "PGE": 13,
    "MCA": 14, "CMOV": 15, "PAT": 16, "PSE36": 17, "CLFSH": 19, "MMX": 23, "FXSR": 24, "SSE": 25, "SSE2": 26,
}  # fmt: skip
_FEATURES_7_B: Final = {"FSGSBASE": 0, "SMEP": 7, "ERMS": 9, "SMAP": 20}
_FEATURES_7_C: Final = {"UMIP": 2}
_EXTENDED_C: Final = {"LAHF": 0}
_EXTENDED_D: Final = {"SYSCALL": 11, "NX": 20, "PDPE1GB": 26, "RDTSCP": 27, "LM": 29}

#: The registers that have features, in pairs as :data:`blockkit.cpu.state.CPUID_CHANGES` has them.
_ALL: Final = (_FEATURES_1_C, _FEATURES_1_D, _FEATURES_7_B, _FEATURES_7_C, _EXTENDED_C, _EXTENDED_D)
#: What can be had beside: in which of the registers, and which bit.
OPTIONAL: Final = {"PCLMULQDQ": (0, 1), "AES": (0, 25), "RDSEED": (2, 18), "ADX": (2, 19), "LZCNT": (4, 5)}
#: Names of models, and the features that they have beside those of the smaller one.
MODELS: Final[dict[str, tuple[str, ...]]] = {"base": (), "max": tuple(OPTIONAL)}
_LEAVES: Final = ((1, (2, 3)), (7, (1, 2)), (0x80000001, (2, 3)))

#: CLFLUSH takes lines of so many times 8 bytes.
_LINE: Final = 8
#: Types of caches in leaf 4.
_DATA, _INSTRUCTIONS, _UNIFIED = 1, 2, 3


def _bits(features: dict[str, int]) -> int:
    return sum(1 << bit for bit in features.values())


def changes(text: str) -> tuple[int, int, int]:
    """Return what CPUID tells otherwise than :data:`MODEL`, as :data:`blockkit.cpu.state.CPUID_CHANGES` has it.

    Args:
        text: ``base`` or ``max``, and features behind it that are added or taken away: ``base,+lzcnt,-rdrand``.

    Raises:
        OptionError: there is no such model or feature.
    """
    words = text.split(",")
    if words[0] not in MODELS:
        raise OptionError(f"cpu: there is no model {words[0][:40]!r}; known are {', '.join(MODELS)}")
    present = {name: (register, bit) for register, names in enumerate(_ALL) for name, bit in names.items()}
    wanted = {*present, *MODELS[words[0]]}
    for word in words[1:]:
        name = word[1:].upper()
        if word[:1] not in ("+", "-") or name not in present.keys() | OPTIONAL.keys():
            known = ", ".join(sorted(each.lower() for each in present.keys() | OPTIONAL.keys()))
            raise OptionError(f"cpu: {word[:40]!r} is no feature with + or - before it; known are {known}")
        (wanted.add if word[0] == "+" else wanted.discard)(name)
    found = [0, 0, 0]
    for name in wanted ^ present.keys():
        register, bit = {**present, **OPTIONAL}[name]
        found[register // 2] |= 1 << register % 2 * 32 + bit
    return found[0], found[1], found[2]


def changed(text: str) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """Return :data:`MODEL` with changes, which are as for :func:`changes`."""
    found = dict(MODEL)
    for (leaf, (low, high)), both in zip(_LEAVES, changes(text), strict=True):
        registers = list(found[leaf, 0])
        registers[low] ^= both & 0xFFFFFFFF
        registers[high] ^= both >> 32
        found[leaf, 0] = (registers[0], registers[1], registers[2], registers[3])
    return found


def _words(text: bytes) -> tuple[int, ...]:
    """Return text as numbers of four bytes."""
    return tuple(int.from_bytes(text[at : at + 4], "little") for at in range(0, len(text), 4))


def _cache(kind: int, level: int, ways: int, sets: int) -> tuple[int, int, int, int]:
    """Return an entry of leaf 4: a cache with lines of 64 bytes that initializes itself."""
    return kind | level << 5 | 1 << 8, (ways - 1) << 22 | 63, sets - 1, 0


def _brand() -> dict[tuple[int, int], tuple[int, int, int, int]]:
    words = _words(BRAND.ljust(48, b"\0"))
    return {(0x80000002 + n, 0): (words[4 * n], words[4 * n + 1], words[4 * n + 2], words[4 * n + 3]) for n in range(3)}


def _named(last: int, name: bytes, order: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return the first leaf of a range, with words of the name in EBX, ECX and EDX."""
    words = _words(name)
    return last, words[order[0]], words[order[1]], words[order[2]]


#: EAX, EBX, ECX and EDX by leaf and subleaf; zeros for what is missing.
MODEL: Final[dict[tuple[int, int], tuple[int, int, int, int]]] = {
    (0, 0): _named(LAST_BASIC, VENDOR, (0, 2, 1)),
    (1, 0): (SIGNATURE, 1 << 16 | _LINE << 8, _bits(_FEATURES_1_C), _bits(_FEATURES_1_D)),
    # Caches are in leaf 4.
    (2, 0): (0xFF01, 0, 0, 0),
    (4, 0): _cache(_DATA, 1, 8, 64),
    (4, 1): _cache(_INSTRUCTIONS, 1, 8, 64),
    (4, 2): _cache(_UNIFIED, 2, 8, 512),
    (7, 0): (0, _bits(_FEATURES_7_B), _bits(_FEATURES_7_C), 0),
    # One thread of one core.
    (0xB, 0): (0, 1, 1 << 8, 0),
    (0xB, 1): (0, 1, 2 << 8 | 1, 0),
    (0x40000000, 0): _named(LAST_HYPERVISOR, HYPERVISOR, (0, 1, 2)),
    (0x80000000, 0): (LAST_EXTENDED, 0, 0, 0),
    (0x80000001, 0): (0, 0, _bits(_EXTENDED_C), _bits(_EXTENDED_D)),
    **_brand(),
    # Level 2: 256 KiB, 8 ways.
    (0x80000006, 0): (0, 0, 256 << 16 | 6 << 12 | 64, 0),
    (0x80000008, 0): (PHYSICAL_BITS | LINEAR_BITS << 8, 0, 0, 0),
}
#: Leaves that look at ECX.
WITH_SUBLEAVES: Final = frozenset((4, 7, 0xB))
