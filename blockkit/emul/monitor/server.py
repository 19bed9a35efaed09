"""The monitor's end at the host: a Unix socket, or standard input and output; threads that only carry lines."""

from __future__ import annotations

import queue
import socket
import threading
from typing import TYPE_CHECKING, Final

from blockkit.emul.monitor.protocol import Conversation
from blockkit.emul.monitor.stream import JsonStream
from blockkit.emul.serial.backends import listen_at, remove_socket
from blockkit.errors import from_os_error

if TYPE_CHECKING:
    from io import BufferedReader
    from typing import IO

    from blockkit.emul.session import Session

_CHUNK: Final = 1 << 16
#: Lines that wait for a slow client at most.
_MOST_WAITING: Final = 1000


class Connection:
    """One client: a thread reads what it says, another one writes our lines.

    Args:
        session: The machine.
        incoming: Where what it says comes from.
        outgoing: Where ours go.
    """

    def __init__(self, session: Session, incoming: BufferedReader, outgoing: IO[bytes]) -> None:
        self._session, self._incoming, self._outgoing = session, incoming, outgoing
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._conversation = Conversation(session, self._put)
        self.writer = threading.Thread(target=self._write, name="monitor", daemon=True)
        self.writer.start()

    def _put(self, line: str | None) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            pass  # it does not read

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._outgoing.write(line.encode() + b"\r\n")
                self._outgoing.flush()
        except (OSError, ValueError):
            pass  # it is gone

    def serve(self) -> None:
        """Carry lines until the client is gone."""
        conversation, stream = self._conversation, JsonStream()
        self._session.call_soon(conversation.begin)
        try:
            while data := self._incoming.read1(_CHUNK):
                for text in stream.feed(data):
                    self._session.call_soon(lambda text=text: conversation.handle(text))  # type: ignore[misc]
        except (OSError, ValueError):
            pass  # it is gone
        self._session.call_soon(self._leave)

    def _leave(self) -> None:
        """Come after all that the client has said was answered."""
        self._conversation.end()
        self.finish()

    def finish(self) -> None:
        """Write what is left, and end."""
        self._put(None)

    def close(self) -> None:
        """Write what is left, and wait for that."""
        self.finish()
        self.writer.join(1)


class MonitorServer:
    """A Unix socket for one client after another.

    Args:
        session: The machine.
        path: The socket's name.
    """

    def __init__(self, session: Session, path: str) -> None:
        self._session, self._path = session, path
        self._listener = socket.socket(socket.AF_UNIX)
        self._connection: Connection | None = None
        self._peer: socket.socket | None = None
        try:
            listen_at(self._listener, path)
        except OSError as error:
            self._listener.close()
            raise from_os_error(error, f"monitor: {path}") from error
        session.inputs += 1
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._peer = self._listener.accept()[0]
                with self._peer, self._peer.makefile("rb") as incoming, self._peer.makefile("wb") as outgoing:
                    self._connection = Connection(self._session, incoming, outgoing)
                    self._connection.serve()
                    self._connection.writer.join(1)
        except OSError:
            pass  # closed

    def close(self) -> None:
        """Write what is left to the client, and end."""
        if self._connection is not None:
            self._connection.close()
        for each in (self._peer, self._listener):
            if each is not None:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self._thread.join(1)
        self._listener.close()
        remove_socket(self._path)
