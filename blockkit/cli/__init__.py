"""The ``blockkit`` command. Importing this package costs nothing; :func:`main` is the entry point."""

from __future__ import annotations


def main() -> int:
    """Run the command line of this process and return its exit code."""
    from blockkit.cli.startup import delay_imports

    delay_imports()
    from blockkit.cli.run import run

    return run()
