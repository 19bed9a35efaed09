"""Words that are read without click come out as they do with it; whatever is not plain is left to it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockkit.cli import plain
from blockkit.cli.clicking import build
from blockkit.cli.commands import COMMANDS
from blockkit.cli.declare import Choice, Command, Integer, WrongWordsError, argument, declared, flags_of, option
from blockkit.cli.img import COMMANDS as IMAGE_COMMANDS
from blockkit.cli.parameters import FORMAT, IMAGE, SIZE

if TYPE_CHECKING:
    from collections.abc import Callable


@declared("sample", help="A bit of everything.", examples=())
@argument("first", type=IMAGE, required=False)
@argument("others", nargs=-1)
@option("-f", "fmt", type=FORMAT)
@option("-s", "--some-size", type=SIZE, default=7)
@option("-c", "--count", type=Integer(1, 9))
@option("--plain-count", default=3)
@option("-k", "--kind", type=Choice("a", "b"), default="a")
@option("-o", "options", multiple=True)
@option("-q", "--quiet", is_flag=True)
@option("-v", is_flag=True)
@option("-W", "ignored", is_flag=True, expose_value=False)
def sample(**_values: Any) -> None: ...


@declared("strict", help="What must be there.", examples=())
@argument("first")
@argument("second", type=SIZE)
@option("-n", "--needed", required=True)
def strict(**_values: Any) -> None: ...


def _real() -> list[Command]:
    found = []
    for entry in IMAGE_COMMANDS.values():
        module, _, attribute = entry.place.partition(":")
        found.append(getattr(import_module(module), attribute))
    return found


TESTED = [sample, strict, *_real()]
VALUES = (
    "a",
    "b",
    "qcow2",
    "disk.img",
    "0",
    "1",
    "5",
    "64K",
    "-1",
    "-1G",
    "x=y",
    "",
    "-",
    "--",
    "off",
    "none",
    "\udcff",
)


@st.composite
def _lines(draw: st.DrawFn) -> tuple[Command, list[str]]:
    command = draw(st.sampled_from(TESTED))
    flags = [flag for flag, _ in flags_of(command.parameters)]
    words = st.one_of(
        st.sampled_from(flags),
        st.sampled_from(VALUES),
        st.builds("{}{}".format, st.sampled_from(flags), st.sampled_from(VALUES)),
        st.builds("{}={}".format, st.sampled_from(flags), st.sampled_from(VALUES)),
        st.builds("-{}".format, st.text("qvWfscoknpUh", min_size=1, max_size=4)),
        st.sampled_from(("-h", "--help", "--no-such", "-Z")),
    )
    return command, draw(st.lists(words, max_size=7))


def _by_click(command: Command, words: list[str]) -> dict[str, Any] | None:
    try:
        with build(command).make_context(command.name, list(words)) as context:
            return dict(context.params)
    except (click.ClickException, click.exceptions.Exit, WrongWordsError):
        return None


@settings(max_examples=1500, deadline=None)
@given(_lines())
def test_what_is_read_plainly_is_what_click_reads(case: tuple[Command, list[str]]) -> None:
    command, words = case
    found = plain.read(command, words)
    if found is not None:
        expected = _by_click(command, words)
        assert found == expected
        assert {name: type(value) for name, value in found.items()} == {
            name: type(value) for name, value in (expected or {}).items()
        }


@pytest.mark.parametrize("command", TESTED, ids=lambda command: command.name)
def test_what_click_reads_of_examples_is_read_plainly(command: Command) -> None:
    for example in command.examples:
        words = example.partition(" | ")[0].replace("'", "").split()[3:]
        assert plain.read(command, words) == _by_click(command, words) is not None


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("a.img", {"first": "a.img"}),
        ("-qv a.img b c", {"first": "a.img", "others": ("b", "c"), "quiet": True, "v": True}),
        ("-c5 -s 64K --kind=b", {"count": 5, "some_size": 65536, "kind": "b"}),
        ("-qfqcow2 -o a -o b=c", {"quiet": True, "fmt": "qcow2", "options": ("a", "b=c")}),
        ("-c 1 -c 9 -W", {"count": 9}),
        ("-- -q -h", {"first": "-q", "others": ("-h",)}),
        ("-f -q", {"fmt": "-q"}),
        ("a - b", {"first": "a", "others": ("-", "b")}),
    ],
)
def test_plain_words_are_read(words: str, values: dict[str, Any]) -> None:
    nothing = {"first": None, "others": (), "fmt": None, "some_size": 7, "count": None, "plain_count": 3}
    nothing |= {"kind": "a", "options": (), "quiet": False, "v": False}
    assert plain.read(sample, words.split()) == nothing | values == _by_click(sample, words.split())


@pytest.mark.parametrize("words", ["-h", "--help", "--quiet=1", "-c 10", "-c x", "-k c", "-f", "--fmt", "-s 1Q", "-qZ"])
def test_what_is_not_plain_is_left_to_click(words: str) -> None:
    assert plain.read(sample, words.split()) is None


@pytest.mark.parametrize("words", ["", "a 1", "-n x a", "-n x a 1 2", "-n x a b"])
def test_what_is_missing_or_too_much_is_left_to_click(words: str) -> None:
    assert plain.read(strict, words.split()) is None


def test_commands_are_found_by_their_path() -> None:
    found = plain.find(["img", "info", "a.img"], COMMANDS, "blockkit")
    assert found is not None
    command, values, path = found
    assert (command.name, values["image"], path) == ("info", "a.img", "blockkit img info")
    for words in (
        [],
        ["img"],
        ["img", "--help"],
        ["img", "nothing"],
        ["--debug", "img", "info", "a"],
        ["run", "a.img"],
    ):
        assert plain.find(words, COMMANDS, "blockkit") is None


def test_a_short_command_needs_no_click(img: Callable, tmp_path, environment: dict[str, str]) -> None:
    import subprocess
    import sys

    assert img("create", "-f", "qcow2", tmp_path / "a.qcow2", "1M").code == 0
    for words in (["info"], ["check"], ["map", "--output", "json"], ["convert", "-O", "qcow2", "-c"]):
        line = ["img", *words, str(tmp_path / "a.qcow2")] + (
            [str(tmp_path / "b.qcow2")] if words[0] == "convert" else []
        )
        program = f"import sys; from blockkit.cli.running import run; run({line!r}); print('MODULES', *sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        assert "click" not in done.stdout.rpartition("MODULES")[2].split(), words
