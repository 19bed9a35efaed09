"""What a processor has if it is asked for: LZCNT, RDSEED, ADX, PCLMULQDQ and AES (SDM volume 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu.cpuid import OPTIONAL
from blockkit.cpu.sem import bits, control
from blockkit.cpu.sem.operands import get, put
from blockkit.cpu.sem.vectors import get as get_vector
from blockkit.cpu.sem.vectors import half, whole
from blockkit.cpu.sem.vectors import put as put_vector
from blockkit.cpu.system import ciphers, identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine


def _require(m: Machine, name: str) -> None:
    m.compute(identity.require_option, *OPTIONAL[name])


def lzcnt(m: Machine) -> None:
    """LZCNT: CF tells that there was none; BSR where the processor does not know better."""
    a = get(m, 1)
    counts = m.name(m.compute(identity.has_option, *OPTIONAL["LZCNT"]).truncated(1))
    none = m.name(a.equals(0))
    length = m.name(m.bit_length(a))
    count = m.name(m.constant(a.bits, a.bits) - length)
    bits.found(m, a, length - 1, otherwise=(counts, count))
    m.set_flags(m.select(counts, count, a), m.constant(0, a.bits))
    m.set_carry(counts & none)


def rdseed(m: Machine) -> None:
    """RDSEED: RDRAND, by another name."""
    _require(m, "RDSEED")
    control.rdrand(m)


def add_with(flag: str) -> Callable[[Machine], None]:
    """ADCX and ADOX: an addition whose carry is CF or OF, and which leaves all other flags."""

    def add(m: Machine) -> None:
        _require(m, "ADX")
        a, b = get(m, 0), get(m, 1)
        carry = m.name(m.carry() if flag == "carry" else m.overflow())
        total = m.name(a + b + carry.zero_extended(a.bits))
        out = m.name(((a & b) | ((a | b) & ~total)).is_negative())
        put(m, 0, total)
        (m.set_carry if flag == "carry" else m.set_overflow)(out)

    return add


def multiply(m: Machine) -> None:
    """PCLMULQDQ: the immediate says which halves."""
    _require(m, "PCLMULQDQ")
    b, a = get_vector(m, 1), get_vector(m, 0)
    control_ = m.name(m.immediate(8).zero_extended(64))
    first = m.name(m.select((control_ & 1).equals(0), half(m, a, 0), half(m, a, 1)))
    second = m.name(m.select((control_ & 16).equals(0), half(m, b, 0), half(m, b, 1)))
    low, high = (m.compute(ciphers.carryless_product, first, second, upper) for upper in (0, 1))
    put_vector(m, 0, whole(m, low, high))


def aes_round(*, inverse: bool, last: bool) -> Callable[[Machine], None]:
    """AESENC, AESDEC, AESENCLAST and AESDECLAST: a round, and its key."""

    def advance(m: Machine) -> None:
        _require(m, "AES")
        key, text = get_vector(m, 1), get_vector(m, 0)
        both = half(m, text, 0), half(m, text, 1)
        low, high = (m.compute(ciphers.aes_round, *both, which, int(inverse), int(last)) for which in (0, 1))
        put_vector(m, 0, whole(m, m.name(low ^ half(m, key, 0)), m.name(high ^ half(m, key, 1))))

    return advance


def aes_unmix(m: Machine) -> None:
    """AESIMC."""
    _require(m, "AES")
    key = get_vector(m, 1)
    put_vector(m, 0, whole(m, *(m.compute(ciphers.aes_unmix, half(m, key, which)) for which in (0, 1))))


def aes_key(m: Machine) -> None:
    """AESKEYGENASSIST."""
    _require(m, "AES")
    key, constant = get_vector(m, 1), m.name(m.immediate(8).zero_extended(64))
    put_vector(m, 0, whole(m, *(m.compute(ciphers.aes_key, half(m, key, which), constant) for which in (0, 1))))


BY_NAME: Final = {
    "LZCNT": lzcnt,
    "RDSEED": rdseed,
    "ADCX": add_with("carry"),
    "ADOX": add_with("overflow"),
}
VECTORS: Final = {
    "PCLMULQDQ": multiply,
    "AESENC": aes_round(inverse=False, last=False),
    "AESENCLAST": aes_round(inverse=False, last=True),
    "AESDEC": aes_round(inverse=True, last=False),
    "AESDECLAST": aes_round(inverse=True, last=True),
    "AESIMC": aes_unmix,
    "AESKEYGENASSIST": aes_key,
}
