"""Traces as files: text for people, JSON lines for programs, and the Trace Event Format that Perfetto opens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TextIO

from blockkit.errors import from_os_error

if TYPE_CHECKING:
    from blockkit.emul.observe.events import Event

_GUEST, _HOST = 1, 2


class TextOutput:
    """Lines for people.

    Args:
        file: Where; closed in the end.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        """Write an event."""
        self._file.write(as_line(event) + "\n")

    def close(self) -> None:
        """End."""
        self._file.close()


def as_line(event: Event) -> str:
    """Return an event as a line."""
    start = f"#{event.request} {event.virtual / 1e9:.9f}"
    result = f" {event.result}" if event.result else ""
    span = f"{event.offset:#x} {event.length}" if event.length or event.offset else ""
    if event.layer == "register":
        return f"{start} {event.name} {event.place} {event.action} {event.length}{result}"
    if event.layer == "request":
        return f"{start} {event.name} {event.action} {span}".rstrip()
    if event.layer == "done":
        return f"{start} {event.name} done after {event.took / 1000:.3f} us{result}"
    indent = "  " * (event.depth + 1)
    # The line above has the file's name.
    place = f"fd {event.fd}" if event.layer == "call" else event.place
    words = " ".join(word for word in (event.name, place, event.action, span) if word)
    return f"{start} {indent}{words} in {event.took / 1000:.1f} us of the host{result}"


class JsonLines(TextOutput):
    """One object a line, with the fields of an event."""

    def __call__(self, event: Event) -> None:
        self._file.write(json.dumps(event._asdict()) + "\n")


class PerfettoOutput(TextOutput):
    """The Trace Event Format, as JSON.

    The guest is one process, in virtual time: a track for each device's registers, and each request from its beginning
    to its end. The host is another one, in its own time: what each node took, and each system call within. Arrows lead
    from one to the other.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._file.write('{"displayTimeUnit":"ns","traceEvents":[\n')
        self._tracks: dict[tuple[int, str], int] = {}
        self._comma = ""
        for process, name in ((_GUEST, "guest (virtual time)"), (_HOST, "host")):
            self._add({"ph": "M", "pid": process, "name": "process_name", "args": {"name": name}})

    def _add(self, value: dict[str, Any]) -> None:
        self._file.write(self._comma + json.dumps(value))
        self._comma = ",\n"

    def _track(self, process: int, name: str) -> dict[str, int]:
        number = self._tracks.get((process, name))
        if number is None:
            number = self._tracks[process, name] = len(self._tracks) + 1
            self._add({"ph": "M", "pid": process, "tid": number, "name": "thread_name", "args": {"name": name}})
        return {"pid": process, "tid": number}

    def __call__(self, event: Event) -> None:
        arguments = {"request": event.request, "offset": event.offset, "length": event.length}
        if event.result:
            arguments["result"] = event.result  # type: ignore[assignment]
        virtual, host = event.virtual / 1000, event.host / 1000
        name = f"{event.action} {event.place}".strip()
        if event.layer == "register":
            track = self._track(_GUEST, event.name)
            self._add({"ph": "i", "s": "t", "name": name, "ts": virtual, **track, "args": arguments})
        elif event.layer in ("request", "done"):
            begins = event.layer == "request"
            track = self._track(_GUEST, event.name)
            common = {"cat": "request", "id": event.request, "ts": virtual, **track}
            self._add({"ph": "b" if begins else "e", "name": event.action, **common, "args": arguments})
            if begins:
                self._add({"ph": "s", "name": "to the host", **common})
        else:
            track = self._track(_HOST, "block graph")
            took = event.took / 1000
            arguments["virtual"] = event.virtual
            if event.layer == "call":
                arguments["fd"] = event.fd
            span = {"ph": "X", "name": f"{event.name} {name}", "cat": event.layer, "ts": host, "dur": took}
            self._add({**span, **track, "args": arguments})
            if event.depth == 0 and event.request and event.layer != "call":
                common = {"cat": "request", "id": event.request, "ts": host, **track}
                self._add({"ph": "f", "bp": "e", "name": "to the host", **common})

    def close(self) -> None:
        self._file.write("\n]}\n")
        super().close()


_KINDS: Final[dict[str, type[TextOutput]]] = {".json": PerfettoOutput, ".jsonl": JsonLines}


def open_output(path: str) -> TextOutput:
    """Return what writes a trace to a file, in the form that its name asks for.

    Raises:
        NodeError: it cannot be written.
    """
    kind = next((made for suffix, made in _KINDS.items() if path.endswith(suffix)), TextOutput)
    try:
        return kind(open(path, "w", encoding="utf-8", errors="backslashreplace"))
    except OSError as error:
        raise from_os_error(error, f"trace: {path}") from error
