"""``blockkit completion`` and what shells are offered."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_blockkit(shell: str, cli: Callable) -> None:
    result = cli("completion", shell)
    assert result.code == 0
    assert f"_BLOCKKIT_COMPLETE={shell}_complete" in result.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=result.out, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("blockkit i", {"plain,img"}),
        ("blockkit img in", {"plain,info", "plain,inspect"}),
        ("blockkit img info -f q", {"plain,qcow2"}),
        ("blockkit img info dis", {"file,dis"}),
        ("blockkit img convert -O r", {"plain,raw"}),
        ("blockkit img check -r ", {"plain,leaks", "plain,all"}),
        ("blockkit img info --back", {"plain,--backing-chain", "plain,--backing-policy"}),
    ],
)
def test_commands_formats_and_paths_are_offered(words: str, offered: set[str], process: Callable) -> None:
    count = len(words.split()) - (0 if words.endswith(" ") else 1)
    environment = {"_BLOCKKIT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    child = process(env=environment)
    out, err = child.communicate(timeout=60)
    assert set(out.decode().split()) == offered, err
