"""``blockkit completion``."""

from __future__ import annotations

import click

from blockkit.cli.command import ImageCommand
from blockkit.cli.root import PROGRAM, root


@click.command(
    "completion",
    cls=ImageCommand,
    help="Print a script that makes SHELL complete the commands, options, formats and images of blockkit.",
    examples=(
        'eval "$(blockkit completion bash)"',
        "blockkit completion zsh > ~/.zfunc/_blockkit",
        "blockkit completion fish > ~/.config/fish/completions/blockkit.fish",
    ),
    exits={0: "success", 2: "the command line is wrong"},
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> None:
    """Print click's script for a shell."""
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None, "click knows the shells it is asked for"
    variable = f"_{PROGRAM.upper()}_COMPLETE"
    made = completion(root, {}, PROGRAM, variable)
    # Not source(): that of bash starts a bash to look at its version.
    click.echo(made.source_template % made.source_vars())
