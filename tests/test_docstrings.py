"""The examples in docstrings run, each in an empty directory of its own."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import blockkit

PACKAGE = Path(blockkit.__file__).parent

#: The names whose docstrings show how they are used.
SHOWN = {"BlockkitError", "Extent", "ImplicitPolicy", "Node.extents", "NodeFile", "create_image", "open_image"}


def modules_with_examples() -> list[str]:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text()]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]


def examples_of(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module, name) if test.examples]


def failures_of(test: doctest.DocTest) -> str:
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    runner.run(test, out=told.append)
    return "".join(told)


EXAMPLES = [test for name in modules_with_examples() for test in examples_of(name)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_does_what_it_shows(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert failures_of(example) == ""


def test_an_example_that_shows_something_else_is_seen() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "sample", None, None)
    assert "Expected:\n    3\nGot:\n    2" in failures_of(wrong)


def test_what_callers_start_with_has_an_example() -> None:
    shown = {example.name for example in EXAMPLES}
    homes = {name: getattr(blockkit, name.partition(".")[0]).__module__ for name in SHOWN}
    assert {f"{home}.{name}" for name, home in homes.items()} - shown == set()
