"""What `import blockkit` offers is the same to programs, to type checkers and to readers."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import blockkit

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ast.parse(Path(blockkit.__file__).read_text())
PUBLIC = blockkit._PUBLIC


def names_for_type_checkers() -> dict[str, str]:
    """Return the names imported under TYPE_CHECKING, with the module each comes from.

    Only ``import a as a`` re-exports to a strict type checker.
    """
    [block] = [node for node in SOURCE.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    found = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, f"{alias.name} is not re-exported"
            found[alias.name] = str(statement.module)
    return found


def test_type_checkers_see_the_names_that_programs_see() -> None:
    assert names_for_type_checkers() == PUBLIC
    assert blockkit.__all__ == sorted(PUBLIC)


@pytest.mark.parametrize("name", blockkit.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(blockkit, name)
    assert value is getattr(importlib.import_module(PUBLIC[name]), name)
    assert value.__module__ == PUBLIC[name]
    assert inspect.getdoc(value)


def test_a_star_import_brings_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from blockkit import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(blockkit.__all__)


def test_a_public_function_asks_for_and_returns_types_that_can_be_looked_up() -> None:
    for name in ("open_image", "create_image"):
        signature = inspect.signature(getattr(blockkit, name))
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values())


@pytest.mark.slow
def test_mypy_knows_the_public_names(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        "import blockkit\n"
        "with blockkit.open_image('a', policy=blockkit.ImplicitPolicy.deny()) as disk:\n"
        "    reveal_type(disk.read(0, 1))\n"
        "    reveal_type(next(disk.extents()).kind)\n"
        "reveal_type(blockkit.create_image)\n" + "".join(f"blockkit.{name}\n" for name in blockkit.__all__)
    )
    options = ["--strict", "--follow-imports=silent", f"--cache-dir={tmp_path / 'cache'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert [text.removeprefix("builtins.") for text in revealed[:2]] == ["bytes", "blockkit.block.node.Kind"]
    assert "Any" not in "".join(revealed[:2])
