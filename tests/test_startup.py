"""What a command imports decides how fast it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from blockkit.block.graph import create_image

#: Modules that no look at an image needs, and what each would add to the time it takes.
UNWANTED = ("asyncio", "numpy", "importlib.metadata", "zstandard", "isal", "email", "concurrent.futures", "ast", "dis")


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
