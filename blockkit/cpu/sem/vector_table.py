"""Which function says what an MMX or SSE instruction does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem import options
from blockkit.cpu.sem import vector_floats as floats
from blockkit.cpu.sem import vector_integers as integers
from blockkit.cpu.sem import vector_moves as moves
from blockkit.cpu.sem import vector_texts as texts
from blockkit.cpu.sem.vectors import described
from blockkit.cpu.system import (
    simd,
    softfloat_32,
    softfloat_64,
    vectors,
)
from blockkit.cpu.system import (
    softfloat_convert as convert,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine

#: Operands that only these instructions have.
VECTOR: Final = frozenset((Where.XMM, Where.XMM_RM, Where.XMM_REGISTER, Where.MMX, Where.MMX_RM, Where.MMX_REGISTER))
_LANES: Final = {"B": 8, "W": 16, "D": 32, "Q": 64}


def _move_quad(m: Machine) -> None:
    """MOVQ, whose other operand may be a general register."""
    general = any(operand.where is Where.RM for operand in m.instruction.form.operands)
    (moves.move_number if general else moves.move_quad)(m)


def _lanewise(names: dict[str, tuple[str, str]]) -> dict[str, Callable[[Machine], None]]:
    """Return instructions whose last letter tells the lanes: ``{"PADD": ("add", "BWDQ")}``."""
    return {
        f"{start}{letter}": integers.lanewise(operation, _LANES[letter])
        for start, (operation, letters) in names.items()
        for letter in letters
    }


def _floats() -> dict[str, Callable[[Machine], None]]:
    """Return what there is four times: for all lanes and for one, of 32 and of 64 bits."""
    found: dict[str, Callable[[Machine], None]] = {}
    for bits, module, letter in ((32, softfloat_32, "S"), (64, softfloat_64, "D")):
        for scalar, kind in ((False, "P"), (True, "S")):
            for name in ("ADD", "SUB", "MUL", "DIV", "MIN", "MAX", "SQRT"):
                function = getattr(module, f"f{bits}_{name.lower()}")
                found[f"{name}{kind}{letter}"] = floats.arithmetic(function, bits, scalar=scalar, unary=name == "SQRT")
            compare, rounded = getattr(simd, f"compare_{bits}"), getattr(simd, f"round_{bits}")
            found[f"CMP{kind}{letter}"] = floats.with_control(compare, bits, scalar=scalar, unary=False)
            found[f"ROUND{kind}{letter}"] = floats.with_control(rounded, bits, scalar=scalar, unary=True)
        order = getattr(module, f"f{bits}_compare")
        found[f"COMIS{letter}"] = floats.compare(order, bits, 1)
        found[f"UCOMIS{letter}"] = floats.compare(order, bits, 0)
        add, subtract = getattr(module, f"f{bits}_add"), getattr(module, f"f{bits}_sub")
        found[f"HADDP{letter}"] = floats.pairs(add, bits)
        found[f"HSUBP{letter}"] = floats.pairs(subtract, bits)
        found[f"ADDSUBP{letter}"] = floats.alternate(subtract, add, bits)
        found[f"DPP{letter}"] = floats.dot(getattr(simd, f"dot_{bits}"), bits)
        found[f"CVTSI2S{letter}"] = floats.from_general(bits)
        found[f"CVTS{letter}2SI"] = floats.to_general(bits, 0)
        found[f"CVTTS{letter}2SI"] = floats.to_general(bits, 1)
    for name, function in (("RCP", simd.reciprocal), ("RSQRT", simd.reciprocal_root)):
        found[f"{name}PS"] = floats.arithmetic(function, 32, scalar=False, unary=True)
        found[f"{name}SS"] = floats.arithmetic(function, 32, scalar=True, unary=True)
    return found


_DESCRIBED: Final[dict[str, Callable[[Machine], None]]] = {
    **dict.fromkeys(("MOVUPS", "MOVUPD", "MOVDQU", "LDDQU"), moves.move_unaligned),
    **dict.fromkeys(moves.ALIGNED, moves.move_aligned),
    **dict.fromkeys(("MOVSS", "MOVSD"), moves.move_scalar),
    **dict.fromkeys(("MOVLPS", "MOVLPD"), moves.move_low),
    **dict.fromkeys(("MOVHPS", "MOVHPD"), moves.move_high),
    "MOVHLPS": moves.move_high_to_low,
    "MOVLHPS": moves.move_low_to_high,
    "MOVSLDUP": moves.duplicate(32, 0),
    "MOVSHDUP": moves.duplicate(32, 1),
    "MOVDDUP": moves.duplicate(64, 0),
    "MOVD": moves.move_number,
    "MOVQ": _move_quad,
    **dict.fromkeys(("MOVQ2DQ", "MOVDQ2Q"), moves.move_quad),
    "MOVMSKPS": moves.signs(32),
    "MOVMSKPD": moves.signs(64),
    "PMOVMSKB": moves.signs(8),
    **dict.fromkeys(("MASKMOVQ", "MASKMOVDQU"), moves.masked_store),
    **dict.fromkeys(("PAND", "ANDPS", "ANDPD"), moves.logic("and")),
    **dict.fromkeys(("PANDN", "ANDNPS", "ANDNPD"), moves.logic("andn")),
    **dict.fromkeys(("POR", "ORPS", "ORPD"), moves.logic("or")),
    **dict.fromkeys(("PXOR", "XORPS", "XORPD"), moves.logic("xor")),
    "PSHUFD": moves.shuffle_double,
    **dict.fromkeys(("PSHUFW", "PSHUFLW"), moves.shuffle_words(0)),
    "PSHUFHW": moves.shuffle_words(1),
    "SHUFPS": moves.shuffle_single,
    "SHUFPD": moves.shuffle_pair,
    "PSHUFB": moves.shuffle_bytes,
    "PALIGNR": moves.align,
    **{
        f"PUNPCK{letter}{kinds}": moves.unpack(f"unpack_{name}", bits)
        for letter, name in (("L", "low"), ("H", "high"))
        for kinds, bits in (("BW", 8), ("WD", 16), ("DQ", 32), ("QDQ", 64))
    },
    **{
        f"UNPCK{letter}P{kind}": moves.unpack(f"unpack_{name}", bits)
        for letter, name in (("L", "low"), ("H", "high"))
        for kind, bits in (("S", 32), ("D", 64))
    },
    "BLENDPS": moves.blend(32),
    "BLENDPD": moves.blend(64),
    "PBLENDW": moves.blend(16),
    "PBLENDVB": moves.blend_variable(8),
    "BLENDVPS": moves.blend_variable(32),
    "BLENDVPD": moves.blend_variable(64),
    "PINSRB": moves.insert(8),
    "PINSRW": moves.insert(16),
    **dict.fromkeys(("PINSRD", "PINSRQ"), moves.insert(0)),
    "PEXTRB": moves.extract(8),
    "PEXTRW": moves.extract(16),
    **dict.fromkeys(("PEXTRD", "PEXTRQ"), moves.extract(0)),
    "EXTRACTPS": moves.extract(32),
    "INSERTPS": moves.insert_single,
    **_lanewise(
        {
            "PADD": ("add", "BWDQ"),
            "PSUB": ("sub", "BWDQ"),
            "PADDS": ("add_sat_s", "BW"),
            "PADDUS": ("add_sat_u", "BW"),
            "PSUBS": ("sub_sat_s", "BW"),
            "PSUBUS": ("sub_sat_u", "BW"),
            "PCMPEQ": ("eq", "BWD"),
            "PCMPGT": ("gt_s", "BWD"),
            "PMULL": ("mul", "WD"),
            "PMULH": ("mul_high_s", "W"),
            "PMULHU": ("mul_high_u", "W"),
            "PMINS": ("min_s", "BWD"),
            "PMINU": ("min_u", "BWD"),
            "PMAXS": ("max_s", "BWD"),
            "PMAXU": ("max_u", "BWD"),
            "PAVG": ("avg", "BW"),
        }
    ),
    "PACKSSWB": integers.lanewise("pack_s", 16),
    "PACKSSDW": integers.lanewise("pack_s", 32),
    "PACKUSWB": integers.lanewise("pack_u", 16),
    "PACKUSDW": integers.lanewise("pack_u", 32),
    **{f"PABS{letter}": integers.unary("abs", _LANES[letter]) for letter in "BWD"},
    **{
        f"PMOV{sign}X{of}{to}": integers.unary(f"widen_{kind}_{_LANES[to]}", _LANES[of])
        for sign, kind in (("S", "s"), ("Z", "u"))
        for of, to in ("BW", "BD", "BQ", "WD", "WQ", "DQ")
    },
    **{f"PSLL{letter}": integers.shift("shl", _LANES[letter]) for letter in "WDQ"},
    **{f"PSRL{letter}": integers.shift("shr", _LANES[letter]) for letter in "WDQ"},
    **{f"PSRA{letter}": integers.shift("sar", _LANES[letter]) for letter in "WD"},
    "PSLLDQ": integers.shift_bytes("shl"),
    "PSRLDQ": integers.shift_bytes("shr"),
    "PMADDWD": integers.by_halves(vectors.multiply_add),
    "PMADDUBSW": integers.by_halves(vectors.multiply_add_bytes),
    "PSADBW": integers.by_halves(vectors.sum_differences),
    "PMULHRSW": integers.by_halves(vectors.multiply_round),
    **{f"PSIGN{letter}": integers.by_halves(vectors.with_signs, _LANES[letter]) for letter in "BWD"},
    "PHADDW": integers.horizontal(16, 0, 0),
    "PHADDD": integers.horizontal(32, 0, 0),
    "PHADDSW": integers.horizontal(16, 0, 1),
    "PHSUBW": integers.horizontal(16, 1, 0),
    "PHSUBD": integers.horizontal(32, 1, 0),
    "PHSUBSW": integers.horizontal(16, 1, 1),
    "PMULUDQ": integers.multiply_even(signed=False),
    "PMULDQ": integers.multiply_even(signed=True),
    "PCMPEQQ": integers.equal_quad,
    "PCMPGTQ": integers.greater_quad,
    "PTEST": integers.test,
    "PHMINPOSUW": integers.smallest_word,
    "MPSADBW": integers.sums_of_differences,
    **_floats(),
    "CVTSS2SD": floats.between_scalars(32),
    "CVTSD2SS": floats.between_scalars(64),
    "CVTPS2PD": floats.vector(convert.f32_to_f64, 32, 64),
    "CVTPD2PS": floats.vector(convert.f64_to_f32, 64, 32),
    **dict.fromkeys(("CVTDQ2PS", "CVTPI2PS"), floats.vector(convert.i32_to_f32, 32, 32)),
    **dict.fromkeys(("CVTDQ2PD", "CVTPI2PD"), floats.vector(convert.i32_to_f64, 32, 64)),
    **dict.fromkeys(("CVTPS2DQ", "CVTPS2PI"), floats.vector(convert.f32_to_i32, 32, 32, 0)),
    **dict.fromkeys(("CVTTPS2DQ", "CVTTPS2PI"), floats.vector(convert.f32_to_i32, 32, 32, 1)),
    **dict.fromkeys(("CVTPD2DQ", "CVTPD2PI"), floats.vector(convert.f64_to_i32, 64, 32, 0)),
    **dict.fromkeys(("CVTTPD2DQ", "CVTTPD2PI"), floats.vector(convert.f64_to_i32, 64, 32, 1)),
    "PCMPESTRI": texts.compare(explicit=True, index=True),
    "PCMPESTRI64": texts.compare(explicit=True, index=True),
    "PCMPESTRM": texts.compare(explicit=True, index=False),
    "PCMPESTRM64": texts.compare(explicit=True, index=False),
    "PCMPISTRI": texts.compare(explicit=False, index=True),
    "PCMPISTRM": texts.compare(explicit=False, index=False),
    **options.VECTORS,
}
#: By mnemonic; some of these mnemonics are strings' too.
BY_NAME: Final = {name: described(function) for name, function in _DESCRIBED.items()}
