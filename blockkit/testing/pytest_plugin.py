"""A plugin of pytest: the fixture ``guest`` makes machines, and a test that fails shows what they said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.emul.guest import Machine

_LAST: Final = 4000
_MACHINES: Final = pytest.StashKey[list[Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--guest-accelerator``."""
    parser.getgroup("blockkit").addoption(
        "--guest-accelerator",
        metavar="NAME",
        default="auto",
        help="what runs the processor of guests that do not say: auto, kvm, jit, python",
    )


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Callable[..., Machine]]:
    """Make machines: ``guest(["disk.qcow2"], snapshot=True)``, as :class:`blockkit.Machine` does; closed in the end.

    ``guest.load("saved", ["disk.qcow2"])`` goes on with a saved one.
    """
    made = request.node.stash.setdefault(_MACHINES, [])
    try:
        yield _Factory(made, request.config.getoption("--guest-accelerator"))
    finally:
        for machine in made:
            machine.close()


class _Factory:
    """Makes machines and remembers them."""

    def __init__(self, made: list[Any], accelerator: str) -> None:
        self._made, self._accelerator = made, accelerator

    def __call__(self, *arguments: Any, **options: Any) -> Machine:
        from blockkit.emul.guest import Machine

        return self._keep(Machine(*arguments, **{"accelerator": self._accelerator, **options}))

    def load(self, *arguments: Any, **options: Any) -> Machine:
        """Go on with a saved machine; see :meth:`blockkit.Machine.load`."""
        from blockkit.emul.guest import Machine

        return self._keep(Machine.load(*arguments, **{"accelerator": self._accelerator, **options}))

    def _keep(self, machine: Machine) -> Machine:
        self._made.append(machine)
        return machine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add what the guests of a test said to its report, if it failed."""
    report: Any = yield
    if report.failed:
        for machine in item.stash.get(_MACHINES, []):
            report.sections.append((f"guest {machine!r}", machine.serial_text[-_LAST:]))
            if screen := machine.screen().strip():
                report.sections.append(("guest's screen", screen))
    return report  # type: ignore[no-any-return]
