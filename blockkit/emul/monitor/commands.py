"""What a monitor can be asked, with the names, arguments and results of QEMU's QMP reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit import __version__
from blockkit.emul.keys import chord
from blockkit.emul.monitor import human
from blockkit.emul.screen import screen_text
from blockkit.emul.session import Status
from blockkit.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blockkit.block.node import Node
    from blockkit.emul.drives import Drive
    from blockkit.emul.session import Session

    Arguments = Mapping[str, Any]


class CommandError(Exception):
    """A command that cannot be done.

    Args:
        problem: For people.
        kind: QMP's class of the error.
    """

    def __init__(self, problem: str, kind: str = "GenericError") -> None:
        super().__init__(problem)
        self.kind = kind


def version() -> dict[str, Any]:
    """Return what we are; QMP has a place for the numbers of QEMU only, where ours are."""
    major, minor, micro = (int(part) for part in __version__.split(".")[:3])
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": f"blockkit {__version__}"}


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise CommandError(f"Parameter '{name}' is missing" if value is None else f"Parameter '{name}' is no text")
    return value


def _query_status(session: Session, _arguments: Arguments) -> Any:
    running = session.status is Status.RUNNING
    return {"status": session.status.value, "running": running, "singlestep": False}


def _image(node: Node) -> dict[str, Any]:
    found = {"filename": str(node), "format": node.driver, "virtual-size": node.size}
    if node.backing is not None:
        found["backing-image"] = _image(node.backing)
    return found


def _drive(drive: Drive) -> dict[str, Any]:
    inserted = {
        "file": drive.config.name,
        "node-name": drive.name,
        "drv": drive.node.driver,
        "ro": drive.disk.read_only,
        "encrypted": False,
        "detect_zeroes": "off",
        "backing_file_depth": _depth(drive.node),
        "image": _image(drive.node),
        "cache": {"writeback": True, "direct": False, "no-flush": drive.config.cache == "unsafe"},
    }
    return {
        "device": drive.name,
        "qdev": drive.config.interface,
        "type": "unknown",
        "removable": drive.config.interface == "cdrom",
        "locked": False,
        "io-status": "failed" if drive.disk.failures else "ok",
        "inserted": inserted,
    }


def _depth(node: Node) -> int:
    depth = 0
    while node.backing is not None:
        node, depth = node.backing, depth + 1
    return depth


def _query_block(session: Session, _arguments: Arguments) -> Any:
    return [_drive(drive) for drive in session.built.drives]


def _screendump(session: Session, arguments: Arguments) -> Any:
    path, kind = _text(arguments, "filename"), arguments.get("format", "text")
    if kind != "text":
        raise CommandError(f"format {kind!r} is not possible, only 'text' is")
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(screen_text(session.pc) + "\n")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    return {}


def _send_key(session: Session, arguments: Arguments) -> Any:
    keys = arguments.get("keys")
    names = [each.get("data") for each in keys if isinstance(each, dict)] if isinstance(keys, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise CommandError("Parameter 'keys' expects a list of {'type': 'qcode', 'data': NAME}")
    try:
        session.pc.keyboard.press(chord("-".join(str(name) for name in names)))
    except OptionError as error:
        raise CommandError(str(error)) from error
    return {}


def _human(session: Session, arguments: Arguments) -> Any:
    return human.execute(session, _text(arguments, "command-line"))


def _then_nothing(act: Callable[[Session], None]) -> Callable[[Session, Arguments], Any]:
    def command(session: Session, _arguments: Arguments) -> Any:
        act(session)
        return {}

    return command


COMMANDS: Final[dict[str, Callable[[Session, Arguments], Any]]] = {
    "query-status": _query_status,
    "query-block": _query_block,
    "query-version": lambda *_: version(),
    "query-name": lambda *_: {},
    "query-commands": lambda *_: [{"name": name} for name in ("qmp_capabilities", *COMMANDS)],
    "stop": _then_nothing(lambda session: session.stop()),
    "cont": _then_nothing(lambda session: session.cont()),
    "quit": _then_nothing(lambda session: session.quit()),
    "system_powerdown": _then_nothing(lambda session: session.press_power_button()),
    "system_reset": _then_nothing(lambda session: session.reset()),
    "screendump": _screendump,
    "send-key": _send_key,
    "human-monitor-command": _human,
}


def execute(session: Session, name: str, arguments: Arguments) -> Any:
    """Do a command; called in the machine's thread.

    Raises:
        CommandError: it is not known, or cannot be done.
    """
    if name not in COMMANDS:
        raise CommandError(f"The command {name} has not been found", "CommandNotFound")
    return COMMANDS[name](session, arguments)
