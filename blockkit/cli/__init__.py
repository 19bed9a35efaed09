"""The ``blockkit`` command. Importing this package costs nothing; :func:`main` is the entry point.

What a run of ``blockkit img info`` costs is nearly all imports, so that is where its time is saved: commands are loaded
when they run, modules that hardly anybody uses are executed when somebody does (:mod:`blockkit.cli.startup`), and the
garbage collector, which finds nothing in what imports make, is kept from looking. See ``docs/performance.md``.
"""

from __future__ import annotations

#: New containers between two collections. An import of everything makes fewer; a long conversion is still collected.
_COLLECT_EVERY = 200_000


def main() -> int:
    """Run the command line of this process and return its exit code."""
    import gc

    try:
        gc.set_threshold(_COLLECT_EVERY, 20, 100)
        _open_missing()
        from blockkit.cli.startup import delay_imports

        delay_imports()
        from blockkit.cli.running import run

        code = run()
    except KeyboardInterrupt:
        return 130  # while it was still loading
    # The process ends: what is alive now need not be searched for cycles once more.
    gc.freeze()
    return code


def _open_missing() -> None:
    """Open /dev/null where a standard stream is closed, lest an image become standard output.

    It is opened the wrong way round, so that whoever has something to read or to print there hears of it.
    """
    import os
    import sys

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
            continue
        except OSError:
            pass
        found = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_WRONLY)
        if found != number:
            os.dup2(found, number)
            os.close(found)
        setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
