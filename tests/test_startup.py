"""What a command imports decides how fast it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from blockkit.block.graph import create_image

#: Modules that no look at an image needs, and what each would add to the time it takes.
UNWANTED = (
    "asyncio",
    "numpy",
    "importlib.metadata",
    "zstandard",
    "isal",
    "email",
    "concurrent.futures",
    "ast",
    "dis",
    "construct",
)


@pytest.mark.parametrize("command", [["img", "info"], ["img", "map"], ["img", "check"]])
def test_looking_at_an_image_imports_nothing_slow(tmp_path, command):
    image = tmp_path / "a.qcow2"
    create_image(image, "qcow2", 1 << 20)
    program = (
        "import sys\n"
        f"sys.argv = ['blockkit', *{command!r}, {str(image)!r}]\n"
        "import blockkit.cli\n"
        "try:\n    blockkit.cli.main()\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    modules = set(done.stdout.rpartition("MODULES")[2].split())
    assert not modules & set(UNWANTED)
    assert "blockkit.formats.qcow2.node" in modules


def test_what_click_and_dataclasses_hardly_use_is_not_executed(tmp_path):
    image = tmp_path / "a.qcow2"
    create_image(image, "qcow2", 1 << 20)
    program = (
        "import sys\n"
        f"sys.argv = ['blockkit', 'img', 'info', {str(image)!r}]\n"
        "from blockkit.cli import main, startup\n"
        "main()\n"
        "print('EXECUTED', *(name for name in startup.SELDOM_USED if type(sys.modules[name]) is not startup.Delayed))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("EXECUTED\n")


def test_what_stands_in_for_a_delayed_name_does_what_the_name_does():
    program = (
        "from blockkit.cli import startup\n"
        "startup.delay_imports()\n"
        "import click, uuid\n"
        "from click.types import UUID\n"
        "import gettext, click.core\n"
        "assert type(uuid) is type(gettext) is startup.Delayed\n"
        "text = 'c7ba1a9a-9a2c-4a3b-a3a5-2b5e7f8f3f10'\n"
        "assert str(UUID.convert(text, None, None)) == text\n"
        "assert click.core._('Usage:') == 'Usage:'\n"
        "from gettext import gettext as real\n"
        "assert type(real).__name__ == 'function'\n"
    )
    subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)


def test_a_delayed_module_is_whole_to_whoever_looks_inside():
    program = (
        "from blockkit.cli import startup\n"
        "startup.delay_imports(('traceback', 'textwrap', 'pickle', 'hashlib'))\n"
        "from traceback import *\n"
        "assert callable(print_exc)\n"
        "import textwrap, pickle, hashlib\n"
        "assert 'dedent' in textwrap.__all__\n"
        "assert 'dumps' in dir(pickle)\n"
        "hashlib.sha256 = 'mine'\n"
        "assert callable(hashlib.md5)\n"
        "assert hashlib.sha256 == 'mine'\n"
    )
    subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
