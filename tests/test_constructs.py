"""What records decode and encode by themselves is what Construct makes of the same declarations."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any, ClassVar

import construct
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blockkit.emul.saved.schema as saved
import blockkit.formats.qcow2.schema as qcow2
from blockkit import constructs
from blockkit.errors import FormatError
from blockkit.schema import Record, field


class Everything(Record):
    """One field of each kind."""

    title: ClassVar[str] = "everything"

    magic: bytes = field(constructs.Const(b"ab"), default=b"ab")
    one: int = field(constructs.Int8ub)
    two: int = field(constructs.Int16ub)
    four: int = field(constructs.Int32ub)
    eight: int = field(constructs.Int64ub)
    turned: int = field(constructs.Int16ul)
    there: int | None = field(constructs.If(constructs.this.one >= 128, constructs.Int32ul), default=None)
    also: bytes | None = field(constructs.If(constructs.this.one >= 64, constructs.Bytes(3)), default=None)
    long: int = field(constructs.Int64ul)
    rest: bytes = field(constructs.GreedyBytes, default=b"")


RECORDS = [
    Everything,
    *(
        record
        for module in (qcow2, saved)
        for record in vars(module).values()
        if isinstance(record, type) and issubclass(record, Record) and record is not Record
    ),
]


def by_construct(record: type[Record], data: bytes) -> dict[str, Any] | None:
    """Decode with Construct alone; None for what it refuses."""
    try:
        parsed = record.schema.parse(data)
    except construct.ConstructError:
        return None
    return {name: parsed[name] for name in names(record)}


def names(record: type[Record]) -> list[str]:
    return [f.name for f in dataclasses.fields(record)]


def starts(record: type[Record]) -> list[bytes]:
    """Bytes a structure begins with: nothing, and what its constants want."""
    first = dataclasses.fields(record)[0]
    return [b"", *([first.default] if isinstance(first.default, bytes) else [])]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_bytes_mean_what_construct_says(record: type[Record]) -> None:
    @given(st.sampled_from(starts(record)), st.binary(max_size=150))
    @settings(max_examples=200)
    def same(start: bytes, rest: bytes) -> None:
        data = start + rest
        expected = by_construct(record, data)
        if expected is None:
            with pytest.raises(FormatError):
                record.parse(data)
            return
        parsed = record.parse(data)
        assert vars(parsed) == expected
        assert parsed.build() == record.schema.build(expected)
        assert data.startswith(parsed.build())
        structure = parsed.structure(16)
        assert structure.size == len(parsed.build())
        assert sum(row.size for row in structure.fields) == structure.size
        for row in structure.fields:
            assert row.value == expected[row.name]
            assert parsed.build()[row.offset - 16 :][: row.size] != b""

    same()


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_values_are_encoded_as_construct_does_or_refused(record: type[Record]) -> None:
    value = st.one_of(
        st.none(),
        st.integers(-2, 2),
        st.integers(0, 1 << 65),
        st.binary(max_size=50),
        st.sampled_from([b"ab", b"QFI\xfb"]),
    )

    @given(st.fixed_dictionaries(dict.fromkeys(names(record), value)))
    @settings(max_examples=200)
    def same(values: dict[str, object]) -> None:
        try:
            expected = record.schema.build(values)
        except Exception as error:  # whatever Construct makes of a value of a wrong type
            with pytest.raises(type(error)):
                record(**values).build()
        else:
            assert record(**values).build() == expected

    same()


def test_what_does_not_fit_is_told_in_constructs_words() -> None:
    with pytest.raises(FormatError, match=r"everything.*field magic: .*b'ab'.*b'xy'"):
        Everything.parse(b"xy" + bytes(40))
    with pytest.raises(FormatError, match=r"everything.*field eight: the data ends here"):
        Everything.parse(b"ab" + bytes(8))


def test_records_of_whole_images_need_no_construct() -> None:
    program = (
        "import sys\n"
        "from blockkit.formats.qcow2.schema import Header, MAGIC\n"
        "head = Header.parse(MAGIC + bytes([0, 0, 0, 3]) + bytes(96))\n"
        "assert head.build() and head.structure(0).fields\n"
        "assert 'construct' not in sys.modules\n"
        "assert head.schema.sizeof is not None\n"
        "assert 'construct' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
