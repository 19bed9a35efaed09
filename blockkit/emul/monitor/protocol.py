"""One conversation in QMP: a greeting, the negotiation, commands and their answers, events."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.monitor.commands import CommandError, execute, version

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.session import Session

#: Keys of a command.
_KEYS: Final = {"execute", "exec-oob", "arguments", "id"}


class Conversation:
    """One client; all but construction is for the machine's thread.

    Args:
        session: The machine.
        send: Takes each line for the client; it may drop them.
    """

    def __init__(self, session: Session, send: Callable[[str], None]) -> None:
        self._session, self._send_line = session, send
        self._negotiated = False

    def begin(self) -> None:
        """Greet, and tell of events from now on."""
        self._send({"QMP": {"version": version(), "capabilities": []}})
        self._session.listeners.append(self._event)

    def end(self) -> None:
        """Tell of nothing any more."""
        if self._event in self._session.listeners:
            self._session.listeners.remove(self._event)

    def _send(self, value: dict[str, Any]) -> None:
        self._send_line(json.dumps(value, ensure_ascii=True))

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if self._negotiated:
            seconds, rest = divmod(time.time_ns(), 1_000_000_000)
            told: dict[str, Any] = {"event": name}
            if data:
                told["data"] = data
            self._send({**told, "timestamp": {"seconds": seconds, "microseconds": rest // 1000}})

    def handle(self, line: bytes) -> None:
        """Answer one line of the client."""
        if not line.strip():
            return
        given: dict[str, Any] = {}
        try:
            given = _read(line)
            answer: dict[str, Any] = {"return": self._do(given)}
        except CommandError as error:
            answer = {"error": {"class": error.kind, "desc": str(error)}}
        if "id" in given:
            answer["id"] = given["id"]
        self._send(answer)

    def _do(self, given: dict[str, Any]) -> Any:
        unknown = set(given) - _KEYS
        if unknown:
            raise CommandError(f"QMP input member '{min(unknown)[:40]}' is unexpected")
        name, arguments = given.get("execute"), given.get("arguments", {})
        if not isinstance(name, str):
            raise CommandError("QMP input lacks member 'execute'")
        if not isinstance(arguments, dict):
            raise CommandError("QMP input member 'arguments' must be an object")
        if name == "qmp_capabilities":
            if self._negotiated:
                raise CommandError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
            self._negotiated = True
            return {}
        if not self._negotiated:
            raise CommandError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
        return execute(self._session, name, arguments)


def _read(line: bytes) -> dict[str, Any]:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CommandError("JSON parse error") from error
    if not isinstance(given, dict):
        raise CommandError("QMP input must be a JSON object")
    return given
