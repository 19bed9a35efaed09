from __future__ import annotations

import enum
from collections.abc import Callable  # noqa: TC003
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockkit.errors import BlockkitError, NameSyntaxError, OptionError
from blockkit.options import build, format_dotted, nest, option_names, parse_dotted, parse_json


class Mode(enum.Enum):
    FAST = "fast"
    SAFE = "safe"


@dataclass(frozen=True)
class Inner:
    name: str = ""
    depth: int = 0


@dataclass(frozen=True)
class Options:
    cache_size: int = 0
    lazy: bool = False
    label: str = "none"
    ratio: float = 1.0
    mode: Mode = Mode.SAFE
    compat: Literal["v2", "v3"] = "v3"
    bits: Literal[8, 16] = 16
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    rules: tuple[Inner, ...] = ()
    words: list[str] = field(default_factory=list)
    sink: Callable[[int], None] | str = "stderr"
    anything: Any = None


def make(**values: object) -> Options:
    return build(Options, values, "here")


# -- text -----------------------------------------------------------------------------------------------


def test_dotted_keys_become_groups() -> None:
    assert parse_dotted("driver=qcow2,file.driver=file,file.filename=a.qcow2,cache-size=32M") == {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": "a.qcow2"},
        "cache_size": "32M",
    }


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", {}),
        ("a=1,", {"a": "1"}),
        ("a=b,,c,d=e", {"a": "b,c", "d": "e"}),
        ("a=,,", {"a": ","}),
        ("a=,,,b=1", {"a": ",", "b": "1"}),
        ("a=x=y", {"a": "x=y"}),
        ("a=", {"a": ""}),
        ("lazy", {"lazy": "on"}),
        ("a=1,a=2", {"a": "2"}),
        ("lazy-refcounts=on", {"lazy_refcounts": "on"}),
        ("file.a=1,file.b.c=2", {"file": {"a": "1", "b": {"c": "2"}}}),
    ],
)
def test_option_text_is_read(text: str, tree: dict[str, Any]) -> None:
    assert parse_dotted(text) == tree


@pytest.mark.parametrize("text", ["=1", ".a=1", "a.=1", "a..b=1", "a=1,a.b=2", "a.b=2,a=1", ".".join("a" * 500) + "=1"])
def test_option_text_that_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_dotted(text)
    assert len(str(caught.value)) < 200


words = st.text(st.characters(blacklist_characters="=,.-\0", blacklist_categories=["Cs", "Z", "C"]), min_size=1)
values = st.text(st.characters(blacklist_categories=["Cs"]))
trees = st.recursive(
    st.dictionaries(words, values, min_size=1, max_size=4),
    lambda inner: st.dictionaries(words, st.one_of(values, inner), min_size=1, max_size=4),
    max_leaves=8,
)


@given(trees)
def test_a_tree_survives_being_written_as_text(tree: dict[str, Any]) -> None:
    assert parse_dotted(format_dotted(tree)) == tree


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (parse_dotted, parse_json):
        try:
            tree = read(text)
        except BlockkitError:
            continue
        assert isinstance(tree, dict)


def test_lists_and_flags_have_a_dotted_form() -> None:
    tree = {"rules": [{"name": "a", "depth": 1}, {"name": "b"}], "lazy": True}
    text = format_dotted(tree)
    assert text == "rules.0.name=a,rules.0.depth=1,rules.1.name=b,lazy=on"
    assert build(Options, parse_dotted(text), "here") == make(**tree)


# -- JSON and mappings -----------------------------------------------------------------------------------


def test_json_may_nest_and_dot() -> None:
    assert parse_json('{"file.driver": "nbd", "file": {"port-name": 1}, "l": [{"a.b": 2}]}') == {
        "file": {"driver": "nbd", "port_name": 1},
        "l": [{"a": {"b": 2}}],
    }


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"a":', "[" * 100_000, '{"a":' * 100_000])
def test_what_is_not_a_json_object_is_refused(text: str) -> None:
    with pytest.raises(NameSyntaxError) as caught:
        parse_json(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("tree", [{1: 2}, {"": 1}, {"a": 1, "a.b": 2}, {"a": {"b.": 1}}])
def test_mappings_that_contradict_themselves_are_refused(tree: dict[Any, Any]) -> None:
    with pytest.raises(OptionError):
        nest(tree)


def test_groups_have_a_depth_that_suffices() -> None:
    for wrap in (lambda inner: {"file": inner}, lambda inner: [inner]):
        tree: Any = 1
        for _ in range(300):
            tree = wrap(tree)
        with pytest.raises(OptionError, match="nested more than"):
            nest({"file": tree})


def test_the_callers_mapping_stays_as_it_is() -> None:
    given_tree = {"file": {"driver": "file"}, "file.filename": "x"}
    nest(given_tree)["file"]["more"] = 1
    assert given_tree == {"file": {"driver": "file"}, "file.filename": "x"}


# -- dataclasses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("cache_size", "32M", 32 << 20),
        ("cache_size", "0x10", 16),
        ("cache_size", 5, 5),
        ("lazy", "on", True),
        ("lazy", "No", False),
        ("lazy", True, True),
        ("label", "x", "x"),
        ("label", 5, "5"),
        ("ratio", "0.5", 0.5),
        ("ratio", 2, 2.0),
        ("mode", "fast", Mode.FAST),
        ("mode", Mode.FAST, Mode.FAST),
        ("compat", "v2", "v2"),
        ("bits", "8", 8),
        ("bits", 8, 8),
        ("limit", "1k", 1024),
        ("limit", None, None),
        ("inner", {"name": "n", "depth": "1K"}, Inner("n", 1024)),
        ("inner", Inner("n"), Inner("n")),
        ("rules", [{"name": "a"}, {"depth": 2}], (Inner("a"), Inner("", 2))),
        ("rules", {"0": {"name": "a"}, "1": {}}, (Inner("a"), Inner())),
        ("words", ["a", "b"], ["a", "b"]),
        ("sink", print, print),
        ("sink", "file", "file"),
        ("anything", {"a": [1]}, {"a": [1]}),
    ],
)
def test_values_become_what_their_field_says(key: str, value: object, expected: object) -> None:
    found = getattr(make(**{key: value}), key)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cache_size", "much"),
        ("cache_size", True),
        ("cache_size", 1.5),
        ("cache_size", None),
        ("cache_size", {}),
        ("cache_size", "9" * 30),
        ("lazy", "maybe"),
        ("lazy", 1),
        ("lazy", None),
        ("label", ["x"]),
        ("label", True),
        ("label", None),
        ("ratio", "nan"),
        ("ratio", "1e999"),
        ("ratio", "half"),
        ("ratio", True),
        ("mode", "slow"),
        ("compat", "v4"),
        ("compat", ["v2"]),
        ("bits", 4),
        ("limit", "x"),
        ("inner", "x"),
        ("inner", {"nam": "x"}),
        ("rules", "x"),
        ("rules", {"0": {}, "2": {}}),
        ("words", [["a"]]),
        ("sink", ["x"]),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"here: {key}") as caught:
        make(**{key: value})
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_option_brings_the_near_one_to_mind() -> None:
    with pytest.raises(OptionError, match="here: there is no option 'cash_size'; did you mean 'cache_size'"):
        make(cash_size=1)
    with pytest.raises(OptionError, match=r"known are .*label"):
        make(zzzzzzzz=1)


def test_an_option_without_default_is_asked_for() -> None:
    @dataclass
    class Needy:
        filename: str

    with pytest.raises(OptionError, match="here: option 'filename' is needed"):
        build(Needy, {}, "here")


def test_the_names_of_all_options_can_be_listed() -> None:
    assert option_names(Inner) == ["name", "depth"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(values, inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(option_names(Options)), json_values))
def test_any_values_are_taken_or_refused(tree: dict[str, Any]) -> None:
    tree.pop("anything", None)
    try:
        build(Options, tree, "here")
    except OptionError:
        pass
