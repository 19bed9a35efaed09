"""Modules that are executed when they are first used."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from blockkit.cli.startup import SELDOM_USED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def python(environment: dict[str, str]) -> Callable[..., str]:
    """``python(program)`` runs it in an interpreter of its own and returns what it printed."""

    def run(program: str, code: int = 0) -> str:
        program = "import sys\nfrom blockkit.cli.startup import delay_imports\n" + textwrap.dedent(program)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("name", SELDOM_USED)
def test_a_delayed_module_has_everything_the_real_one_has(name: str, python: Callable[..., str]) -> None:
    """It can be listed, used, imported from and imported again."""
    python(f"""
        from importlib import import_module
        first = set(sys.modules)
        delay_imports(("{name}",))
        import {name}
        delayed = type({name}).__name__ == "Delayed"
        public = [n for n in getattr({name}, "__all__", None) or ["not_there"]]
        for n in public:
            hasattr({name}, n)
        assert delayed == ("{name}" not in first), "it was delayed unless it was there"
        assert type({name}).__name__ == "module"
        assert import_module("{name}") is {name}
        assert {name}.__name__ == "{name}" and {name}.__spec__.name == "{name}" and {name}.__file__
        try:
            {name}.no_such_name
        except AttributeError:
            pass
        else:
            raise SystemExit("a name that is missing was found")
    """)


def test_nothing_is_executed_before_it_is_used(python: Callable[..., str]) -> None:
    assert (
        python("""
        delay_imports(("pdb",))
        import pdb, importlib
        importlib.import_module("pdb")
        print("bdb" in sys.modules, end=" ")
        from pdb import Pdb
        print("bdb" in sys.modules)
    """)
        == "False True\n"
    )


def test_what_is_loaded_already_stays_as_it_is(python: Callable[..., str]) -> None:
    python("""
        import inspect
        delay_imports(("inspect",))
        assert sys.modules["inspect"] is inspect and type(inspect).__name__ == "module"
    """)


def test_many_threads_can_be_first(python: Callable[..., str]) -> None:
    python("""
        import threading
        sys.setswitchinterval(1e-6)
        delay_imports(("pickle", "inspect", "pdb"))
        import inspect, pdb, pickle
        barrier, failed = threading.Barrier(16), []
        def use():
            barrier.wait()
            try:
                pickle.dumps(inspect.signature(use).parameters.keys().__len__())
                pdb.Pdb
            except BaseException as error:
                failed.append(error)
        threads = [threading.Thread(target=use) for _ in range(16)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not failed, failed
    """)


def test_a_thread_that_comes_when_another_has_just_executed_it_finds_the_name(python: Callable[..., str]) -> None:
    python("""
        delay_imports(("pdb",))
        import pdb
        late = type(pdb).__getattr__
        pdb.Pdb
        assert late(pdb, "Pdb") is pdb.Pdb
    """)


def test_one_thread_executes_what_another_is_importing(tmp_path: Path, python: Callable[..., str]) -> None:
    """As ``pdb`` imports ``bdb`` while whoever imports ``bdb`` waits for a name of ``inspect``."""
    (tmp_path / "outer.py").write_text("from __main__ import a, b\na.set(); b.wait()\nfrom shared import X\n")
    (tmp_path / "shared.py").write_text(
        "from __main__ import b\nb.set()\nimport time\ntime.sleep(0.2)\nfrom inner import X\n"
    )
    (tmp_path / "inner.py").write_text("X = 7\n")
    assert (
        python(f"""
        import faulthandler, threading
        faulthandler.dump_traceback_later(20, exit=True)
        sys.path.insert(0, {str(tmp_path)!r})
        delay_imports(("outer", "inner"))
        import outer
        a, b = threading.Event(), threading.Event()

        def use():
            a.wait()
            import shared

        other = threading.Thread(target=use)
        other.start()
        print(outer.X, end="")
        other.join()
    """)
        == "7"
    )


def test_a_traceback_can_still_be_printed(python: Callable[..., str]) -> None:
    shown = python(
        """
        delay_imports()
        import traceback, logging
        1 / 0
    """,
        code=1,
    )
    assert "line 6" in shown
    assert "ZeroDivisionError: division by zero" in shown
