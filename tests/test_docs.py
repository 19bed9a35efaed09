"""What the documentation says is there, and its examples run."""

from __future__ import annotations

import errno
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import blockkit
from blockkit import errors

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

#: Extras whose absence keeps a module from being imported.
OPTIONAL = {"pyfuse3", "trio", "llvmlite", "isal"}

#: A ```python block, shown; or <!-- python ... -->, which prepares what the shown ones use. ``<!-- not run -->`` before
#: a block leaves it out.
_BLOCK = re.compile(
    r"^(?P<skip><!-- not run -->\n+)?(?:```python\n(?P<shown>.*?)^```$|<!-- python\n(?P<hidden>.*?)^-->$)",
    re.MULTILINE | re.DOTALL,
)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def document_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def program_of(text: str) -> str:
    """Return the Python of a document as one program, each line at the number it has in the document."""
    lines = [""] * (text.count("\n") + 1)
    for match in _BLOCK.finditer(text):
        if match["skip"]:
            continue
        group = "shown" if match["shown"] is not None else "hidden"
        start = text.count("\n", 0, match.start(group))
        for number, line in enumerate(match[group].splitlines()):
            lines[start + number] = line
    return "\n".join(lines)


def anchors_of(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text())):
            broken.append(link)
    return broken


def module_names() -> list[str]:
    found = pkgutil.walk_packages(blockkit.__path__, "blockkit.")
    return ["blockkit", *(info.name for info in found if not info.name.endswith("__main__"))]


def import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")


def undocumented(module: ModuleType) -> list[str]:
    """Name what ``module`` defines in public without a docstring; an override inherits the one above it."""
    missing = [] if module.__doc__ else [module.__name__]
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType | type) and not inspect.getdoc(value):
            missing.append(f"{module.__name__}.{name}")
        if isinstance(value, type):
            missing += [
                f"{module.__name__}.{name}.{method}"
                for method, member in vars(value).items()
                if not method.startswith("_")
                and isinstance(member, FunctionType | property | classmethod | staticmethod)
                and not inspect.getdoc(getattr(value, method))
            ]
    return missing


@pytest.mark.parametrize("name", module_names())
def test_everything_public_has_a_docstring(name: str) -> None:
    assert undocumented(import_module(name)) == []


def test_a_missing_docstring_is_seen() -> None:
    module = ModuleType("sample")
    exec("class Thing:\n    'Doc.'\n    def act(self): ...\ndef bare(): ...", vars(module) | {}, vars(module))
    for value in (module.Thing, module.bare):
        value.__module__ = "sample"
    assert undocumented(module) == ["sample", "sample.Thing.act", "sample.bare"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](#a-title) [b](#none) [c](gone.md) [d](https://example.org/)\n")
    assert broken_links(page) == ["#none", "gone.md"]


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if _BLOCK.search(d.read_text())], ids=document_name)
def test_examples_run(document: Path, tmp_path: Path) -> None:
    script = f"exec(compile({program_of(document.read_text())!r}, {str(document)!r}, 'exec'))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_example_keeps_its_line_numbers_and_may_be_left_out() -> None:
    text = "# T\n\n```python\na = 1\n```\n\n<!-- not run -->\n```python\nboom\n```\n<!-- python\nb = a\n-->\n"
    assert program_of(text).splitlines() == ["", "", "", "a = 1", *[""] * 7, "b = a", ""]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_the_table_of_errors_is_complete_and_right() -> None:
    rows = re.findall(
        r"^\| [│├└ ]*`(\w+)` \| (\S+|the system's) \| (\d) \|", (ROOT / "docs" / "opening.md").read_text(), re.MULTILINE
    )
    # Numbers are compared, not names: some have two.
    table = {name: (getattr(errno, number, number), int(code)) for name, number, code in rows}
    truth: dict[str, tuple[object, int]] = {
        name: (value.errno, value.exit_code)
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.BlockkitError)
    }
    truth["NodeIOError"] = ("the system's", errors.NodeIOError.exit_code)
    assert table == truth
