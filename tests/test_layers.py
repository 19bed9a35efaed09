"""The arrows between the packages point down, and nothing goes round in circles.

Imports are read from the source, so that those inside functions count too.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "blockkit"

#: Layer -> the layers it may not import, wherever the import stands.
FORBIDDEN = {
    "block": {"formats", "protocols", "img", "cli", "cpu", "emul"},
    "formats": {"protocols", "img", "cli"},
    "protocols": {"formats", "img", "cli"},
    "img": {"cli"},
    "native": {"block", "formats", "protocols", "img", "cli", "cpu", "emul"},
    "cpu": {"block", "formats", "protocols", "img", "cli", "emul"},
    "emul": {"formats", "protocols", "img", "cli"},
}
#: What opens a graph by the names of drivers looks them up here, inside a function.
REGISTRIES = {"blockkit.formats", "blockkit.protocols"}
#: Layers that treat every driver alike.
NEUTRAL = {"img", "cli"}


@dataclass(frozen=True)
class Import:
    """One module that ``source`` imports; ``deferred`` is an import inside a function, ``typing`` one for types."""

    source: str
    line: int
    target: str
    deferred: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def name_of(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules(package: Path = PACKAGE) -> dict[str, Path]:
    return {name_of(path, package): path for path in sorted(package.rglob("*.py"))}


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def read_imports(name: str, path: Path, known: dict[str, Path]) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, deferred: bool, typing: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(name, node.lineno, alias.name, deferred, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append(Import(name, node.lineno, inner if inner in known else base, deferred, typing))
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and is_for_types(node):
            for child in node.body:
                visit(child, inside, True)
            for child in node.orelse:
                visit(child, inside, typing)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, inside, typing)

    visit(ast.parse(path.read_text(), str(path)), False, False)
    return found


@cache
def imports(package: Path = PACKAGE) -> list[Import]:
    known = modules(package)
    return [found for name, path in known.items() for found in read_imports(name, path, known)]


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "blockkit" and len(parts) > 1 else ""


def upward(found: list[Import]) -> list[str]:
    return [
        str(one)
        for one in found
        if layer_of(one.target) in FORBIDDEN.get(layer_of(one.source), ())
        and not (layer_of(one.source) == "block" and one.deferred and one.target in REGISTRIES)
    ]


def by_name(found: list[Import]) -> list[str]:
    """Return where the tools know a particular format or protocol: they are to ask the registries."""
    return [
        str(one)
        for one in found
        if layer_of(one.source) in NEUTRAL
        and layer_of(one.target) in {"formats", "protocols"}
        and one.target not in REGISTRIES
    ]


def cycles(found: list[Import]) -> list[list[str]]:
    """Return the circles among imports that run when a module is imported."""
    edges: dict[str, set[str]] = {}
    for one in found:
        if not one.deferred and not one.typing and one.target.startswith("blockkit"):
            edges.setdefault(one.source, set()).add(one.target)
    circles: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            circles.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in sorted(edges.get(name, ())):
                walk(target, [*path, name])
            done.add(name)

    for name in sorted(edges):
        walk(name, [])
    return circles


def uses_construct(one: Import) -> bool:
    return one.target.split(".")[0] == "construct"


def may_import_construct(module: str) -> bool:
    return any(part in ("schema", "constructs") or part.endswith("_schema") for part in module.split(".")[1:])


def sample(place: Path, layer: str, source: str) -> Path:
    """Make a package in which one module of ``layer`` holds ``source``."""
    package = place / "blockkit"
    for name in ("block/node", "formats/raw", "protocols/file", "img/info", "cli/main"):
        file = package / f"{name}.py"
        file.parent.mkdir(parents=True)
        file.write_text("")
        file.with_name("__init__.py").write_text("")
    (package / layer / "sample.py").write_text(source)
    return package


def test_no_layer_imports_one_above_it() -> None:
    assert upward(imports()) == []


def test_the_tools_name_no_driver() -> None:
    assert by_name(imports()) == []


def test_modules_do_not_import_each_other_in_circles() -> None:
    assert cycles(imports()) == []


def test_only_schemas_meet_construct() -> None:
    strangers = [
        str(one)
        for one in imports()
        if one.target.split(".")[0] == "construct" and not may_import_construct(one.source)
    ]
    assert strangers == []


def test_nothing_but_the_test_kit_imports_the_test_kit() -> None:
    users = [str(one) for one in imports() if layer_of(one.target) == "testing" and layer_of(one.source) != "testing"]
    assert users == []


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    vague = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert [name for name in modules() if vague & set(name.split("."))] == []


@pytest.mark.parametrize(
    ("layer", "source", "allowed"),
    [
        ("block", "from blockkit.formats import raw", False),
        ("block", "from blockkit.formats import FORMATS", False),
        ("block", "def f():\n    from blockkit.formats import FORMATS", True),
        ("block", "def f():\n    from blockkit.formats.raw import DRIVER", False),
        ("formats", "def f():\n    import blockkit.protocols.file", False),
        ("formats", "from ..protocols import file", False),
        ("formats", "from blockkit.block import node", True),
        ("protocols", "if TYPE_CHECKING:\n    from blockkit.formats.raw import RawNode", False),
        ("img", "from blockkit import cli", False),
    ],
)
def test_an_import_against_the_arrows_is_seen(tmp_path: Path, layer: str, source: str, allowed: bool) -> None:
    assert (upward(imports(sample(tmp_path, layer, source))) == []) is allowed


@pytest.mark.parametrize(
    ("layer", "source", "allowed"),
    [
        ("img", "def f():\n    from blockkit.formats import format_driver", True),
        ("img", "def f():\n    from blockkit.formats.raw import DRIVER", False),
        ("img", "if TYPE_CHECKING:\n    from blockkit.formats import raw", False),
        ("cli", "import blockkit.protocols.file", False),
        ("block", "from blockkit.block import node", True),
    ],
)
def test_a_driver_that_is_named_is_seen(tmp_path: Path, layer: str, source: str, allowed: bool) -> None:
    assert (by_name(imports(sample(tmp_path, layer, source))) == []) is allowed


def test_a_circle_is_seen_and_a_deferred_import_breaks_it() -> None:
    there = Import("blockkit.a", 1, "blockkit.b", False, False)
    assert cycles([there, Import("blockkit.b", 1, "blockkit.a", False, False)]) == [
        ["blockkit.a", "blockkit.b", "blockkit.a"]
    ]
    assert cycles([there, Import("blockkit.b", 1, "blockkit.a", True, False)]) == []
    assert cycles([there, Import("blockkit.b", 1, "blockkit.a", False, True)]) == []
