"""Where a debugger connects: a port of TCP or a Unix socket; a thread that carries packets."""

from __future__ import annotations

import queue
import socket
import threading
from typing import TYPE_CHECKING, Final

from blockkit.emul.gdb.packets import INTERRUPT, Reader, frame
from blockkit.emul.gdb.stub import Stub
from blockkit.emul.serial.backends import listen_at, remove_socket
from blockkit.emul.session import Status
from blockkit.errors import OptionError, from_os_error

if TYPE_CHECKING:
    from blockkit.emul.session import Session

_CHUNK: Final = 4096


class GdbServer:
    """Takes one debugger after another. The machine stands still until the first one lets it go on.

    Args:
        session: The machine.
        where: ``PORT``, ``HOST:PORT`` or ``unix:PATH``; a port alone is this host's, for its own users only.

    Attributes:
        place: Where it listens; the port of TCP that was chosen if 0 was asked for.

    Raises:
        OptionError: ``where`` is none of these.
        NodeError: nobody may listen there.
    """

    def __init__(self, session: Session, where: str) -> None:
        self._session = session
        self._path = where.removeprefix("unix:") if where.startswith("unix:") else ""
        self._listener, self.place = _listen(where, self._path)
        self._peer: socket.socket | None = None
        session.inputs += 1
        session.stop(Status.DEBUG)
        self._thread = threading.Thread(target=self._run, name="gdb", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._peer = self._listener.accept()[0]
                with self._peer:
                    self._serve(self._peer)
        except OSError:
            pass  # closed

    def _serve(self, peer: socket.socket) -> None:
        replies: queue.Queue[bytes | None] = queue.Queue()
        stub = Stub(self._session, lambda data: replies.put(frame(data)))
        writer = threading.Thread(target=_write, args=(peer, replies), name="gdb", daemon=True)
        writer.start()
        call, reader = self._session.call_soon, Reader()
        call(stub.begin)
        try:
            while data := peer.recv(_CHUNK):
                for packet in reader.feed(data):
                    if packet is None:
                        replies.put(b"-")
                    elif packet == INTERRUPT:
                        call(stub.interrupt)
                    else:
                        replies.put(b"+")
                        text = packet.decode("latin-1")
                        call(lambda text=text: stub.handle(text))  # type: ignore[misc]
        except OSError:
            pass  # it is gone
        call(stub.end)
        replies.put(None)
        writer.join(1)

    def close(self) -> None:
        """End the conversation."""
        for each in (self._peer, self._listener):
            if each is not None:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self._thread.join(2)
        self._listener.close()
        if self._path:
            remove_socket(self._path)


def _write(peer: socket.socket, replies: queue.Queue[bytes | None]) -> None:
    try:
        while (data := replies.get()) is not None:
            peer.sendall(data)
    except OSError:
        pass  # it is gone


def _listen(where: str, path: str) -> tuple[socket.socket, str]:
    if path:
        listener = socket.socket(socket.AF_UNIX)
        try:
            listen_at(listener, path)
        except OSError as error:
            listener.close()
            raise from_os_error(error, f"gdb: {path}") from error
        return listener, path
    host, _, port = where.rpartition(":")
    if not port.isdecimal() or int(port) > 0xFFFF:
        raise OptionError(f"gdb {where!r} is not [HOST:]PORT or unix:PATH")
    try:
        listener = socket.create_server((host or "127.0.0.1", int(port)), backlog=1)
    except OSError as error:
        raise from_os_error(error, f"gdb: {where}") from error
    return listener, "{}:{}".format(*listener.getsockname()[:2])
