"""Frozen values behave as frozen dataclasses do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockkit.frozen import Frozen


class Ours(Frozen):
    """Three fields."""

    first: int
    second: tuple[int, ...] = ()
    third: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Theirs:
    """The same, of the standard library."""

    first: int
    second: tuple[int, ...] = ()
    third: list[int] = dataclasses.field(default_factory=list)


class Positive(Frozen):
    """Judges what it is given."""

    value: int = 1

    def __post_init__(self) -> None:
        if self.value < 1:
            raise ValueError(f"{self.value} is below 1")


NAMES = st.sampled_from(["first", "second", "third", "fourth"])


@given(ordered=st.lists(st.integers(), max_size=4), named=st.dictionaries(NAMES, st.integers()))
def test_arguments_are_taken_as_a_dataclass_takes_them(ordered: list[int], named: dict[str, int]) -> None:
    def made(cls: Any) -> object:
        try:
            return dataclasses.asdict(cls(*ordered, **named))
        except TypeError:
            return TypeError

    assert made(Ours) == made(Theirs)


def test_dataclass_functions_work() -> None:
    value = Ours(1, (2,))
    assert [field.name for field in dataclasses.fields(value)] == ["first", "second", "third"]
    assert dataclasses.replace(value, first=5) == Ours(5, (2,))
    assert repr(value) == "Ours(first=1, second=(2,), third=[])"
    assert Ours(1) != Theirs(1)


def test_default_factories_are_not_shared() -> None:
    assert Ours(1).third is not Ours(1).third


def test_equal_values_hash_alike() -> None:
    assert len({Positive(2), Positive(value=2), Positive(3)}) == 2


def test_nothing_can_be_assigned_or_deleted() -> None:
    value = Ours(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="first"):
        value.first = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="first"):
        del value.first
    assert value.first == 1


def test_what_is_given_is_judged() -> None:
    with pytest.raises(ValueError, match="below 1"):
        Positive(0)
    with pytest.raises(ValueError, match="below 1"):
        dataclasses.replace(Positive(1), value=-1)
