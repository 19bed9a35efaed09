"""``blockkit completion``."""

from __future__ import annotations

from blockkit.cli.declare import Choice, argument, declared
from blockkit.cli.output import echo
from blockkit.cli.settings import PROGRAM


@declared(
    "completion",
    help="Print a script that makes SHELL complete the commands, options, formats and images of blockkit.",
    examples=(
        'eval "$(blockkit completion bash)"',
        "blockkit completion zsh > ~/.zfunc/_blockkit",
        "blockkit completion fish > ~/.config/fish/completions/blockkit.fish",
    ),
    exits={0: "success", 2: "the command line is wrong"},
)
@argument("shell", type=Choice("bash", "zsh", "fish"))
def command(shell: str) -> None:
    """Print click's script for a shell."""
    from click.shell_completion import get_completion_class

    from blockkit.cli.root import root

    completion = get_completion_class(shell)
    assert completion is not None, "click knows the shells it is asked for"
    variable = f"_{PROGRAM.upper()}_COMPLETE"
    made = completion(root, {}, PROGRAM, variable)
    # Not source(): that of bash starts a bash to look at its version.
    echo(made.source_template % made.source_vars())
