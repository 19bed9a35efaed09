"""The commands there are: a literal table, so that listing them imports none."""

from __future__ import annotations

from typing import Final

from blockkit.cli.declare import Lazy

COMMANDS: Final = {
    "run": Lazy("blockkit.cli.run.command:command", "Start a PC with disk images of any kind."),
    "img": Lazy(
        "blockkit.cli.groups:img",
        "Make, convert, examine and check disk images.",
        commands="blockkit.cli.img:COMMANDS",
    ),
    "completion": Lazy("blockkit.cli.completion:command", "Print a script that completes commands in a shell."),
}
