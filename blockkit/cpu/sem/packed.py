"""What can be done with all lanes of a vector at once: the operations of :meth:`Machine.packed`.

Each takes numbers of 64 or 128 bits and gives one as wide. ``lane_bits`` are 8, 16, 32 or 64.

- ``add sub mul``: the low bits of the result; ``mul_high_s mul_high_u``: the high ones.
- ``add_sat_s add_sat_u sub_sat_s sub_sat_u``: with saturation.
- ``eq gt_s``: all ones where it holds. ``min_s min_u max_s max_u avg abs``.
- ``shl shr sar``: by a count, 64 bits, the same for all lanes; one that is too large shifts everything out.
- ``unpack_low unpack_high``: the lanes of the lower or upper halves, taken in turns.
- ``pack_s pack_u``: lanes of half the size, from signed ones with saturation, the first operand's first.
- ``widen_s_N widen_u_N``: the lowest lanes extended to N bits.
"""

from __future__ import annotations

from typing import Final

#: All of them; the last two with N.
NAMES: Final = frozenset(
    (
        *("add", "sub", "mul", "mul_high_s", "mul_high_u", "add_sat_s", "add_sat_u", "sub_sat_s", "sub_sat_u"),
        *("eq", "gt_s", "min_s", "min_u", "max_s", "max_u", "avg", "abs", "shl", "shr", "sar"),
        *("unpack_low", "unpack_high", "pack_s", "pack_u"),
        *(f"widen_{sign}_{bits}" for sign in "su" for bits in (16, 32, 64)),
    )
)
