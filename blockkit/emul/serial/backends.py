"""Where a serial port leads on the host: streams, files, pseudo terminals, sockets.

A backend never waits for whoever is at its other end: the guest's port has no wire that could tell it to. What comes
in is read by a thread, which hands it to the machine.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

from blockkit.errors import OptionError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Takes bytes for the guest, from any thread.
    Receive = Callable[[bytes], None]

_CHUNK: Final = 4096
#: Seconds between two looks at whether the guest takes more.
_PATIENCE: Final = 0.02


class Backend:
    """Leads nowhere; the others are subclasses.

    Attributes:
        interactive: Something may come in.
        place: What to tell the user, such as the name of a pseudo terminal.
        ready: Whether the guest takes more; what comes in waits otherwise.
    """

    interactive = False
    place = ""

    def __init__(self) -> None:
        self.ready: Callable[[], bool] = lambda: True

    def start(self, receive: Receive) -> None:
        """Begin to hand on what comes in."""

    def write(self, data: bytes) -> None:
        """Take what the guest sent."""

    def close(self) -> None:
        """End."""


class FileBackend(Backend):
    """A file that is written anew."""

    def __init__(self, path: str) -> None:
        super().__init__()
        try:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by close
        except OSError as error:
            raise from_os_error(error, f"serial: {path}") from error

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError:
            pass  # a full disk does not stop the guest

    def close(self) -> None:
        self._file.close()


class StreamBackend(Backend):
    """A pair of descriptors, which stay open.

    Args:
        input_: Where to read; negative for nowhere.
        output: Where to write.
        filter_: Called with what was read; returns what of it is the guest's.
    """

    interactive = True

    def __init__(self, input_: int, output: int, filter_: Callable[[bytes], bytes] = lambda data: data) -> None:
        super().__init__()
        self._input, self._output, self._filter = input_, output, filter_
        self._wake = os.pipe()
        self._thread: threading.Thread | None = None

    def start(self, receive: Receive) -> None:
        if self._input >= 0:
            self._thread = threading.Thread(target=self._read, args=(receive,), name="serial", daemon=True)
            self._thread.start()

    def _read(self, receive: Receive) -> None:
        while True:
            if not self.ready():
                if select.select([self._wake[0]], [], [], _PATIENCE)[0]:
                    return
                continue
            ready = select.select([self._input, self._wake[0]], [], [])[0]
            if self._wake[0] in ready:
                return
            try:
                data = os.read(self._input, _CHUNK)
            except OSError:
                data = b""
            if not data:
                return
            kept = self._filter(data)
            if kept:
                receive(kept)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._output, rest) :]
            except BlockingIOError:
                select.select([], [self._output], [])

    def close(self) -> None:
        if self._thread is not None:
            os.write(self._wake[1], b"x")
            self._thread.join()
        for each in self._wake:
            os.close(each)


class PtyBackend(StreamBackend):
    """A pseudo terminal; what nobody reads is lost."""

    def __init__(self) -> None:
        import tty

        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.place = os.ttyname(self._slave)
        super().__init__(self._master, self._master)

    def write(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except OSError:
            pass  # its buffer is full

    def close(self) -> None:
        super().close()
        os.close(self._master)
        os.close(self._slave)


class UnixBackend(Backend):
    """A Unix socket: somebody else's, or our own for one peer after another.

    Args:
        path: Its name.
        server: Make it, and take connections.
    """

    interactive = True

    def __init__(self, path: str, server: bool) -> None:
        super().__init__()
        self._path, self._server = path, server
        self._socket = socket.socket(socket.AF_UNIX)
        self._peer: socket.socket | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        try:
            if server:
                listen_at(self._socket, path)
            else:
                self._socket.connect(path)
                # Somebody is there already: what the guest says before the thread runs is not lost.
                self._peer = self._socket
        except OSError as error:
            self._socket.close()
            raise from_os_error(error, f"serial: {path}") from error
        self.place = path

    def start(self, receive: Receive) -> None:
        self._thread = threading.Thread(target=self._run, args=(receive,), name="serial", daemon=True)
        self._thread.start()

    def _run(self, receive: Receive) -> None:
        try:
            while True:
                peer = self._socket.accept()[0] if self._server else self._socket
                peer.settimeout(None)
                with self._lock:
                    self._peer = peer
                while data := peer.recv(_CHUNK):
                    receive(data)
                    while not self.ready():
                        time.sleep(_PATIENCE)
                with self._lock:
                    self._peer = None
                if not self._server:
                    return
                peer.close()
        except OSError:
            return  # closed

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._peer is not None:
                try:
                    self._peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except OSError:
                    pass  # it does not read, or is gone

    def close(self) -> None:
        with self._lock:
            peer = self._peer
        for each in (peer, self._socket):
            if each is not None:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                each.close()
        if self._server:
            remove_socket(self._path)
        if self._thread is not None:
            self._thread.join(1)


def listen_at(listener: socket.socket, path: str) -> None:
    """Bind a Unix socket to ``path``; one that is there and that nobody listens at is replaced."""
    try:
        listener.bind(path)
    except OSError:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except OSError:
                pass
        listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(1)


def remove_socket(path: str) -> None:
    """Remove a socket's name, if it is there."""
    try:
        os.unlink(path)
    except OSError:
        pass


def parse_backend(text: str, stdio: Callable[[], Backend]) -> Backend:
    """Return the backend that ``--serial`` names.

    Args:
        text: ``stdio``, ``none``, ``file:PATH``, ``pty`` or ``unix:PATH[,server]``.
        stdio: Makes the one of the terminal.

    Raises:
        OptionError: it is none of these.
        NodeError: it cannot be opened.
    """
    kind, _, rest = text.partition(":")
    if text == "stdio":
        return stdio()
    if text == "none":
        return Backend()
    if text == "pty":
        return PtyBackend()
    if kind == "file" and rest:
        return FileBackend(rest)
    if kind == "unix" and rest:
        path, comma, word = rest.partition(",")
        if not comma or word in ("server", "server=on"):
            return UnixBackend(path, bool(comma))
    raise OptionError(f"serial {text!r} is not one of stdio, none, file:PATH, pty, unix:PATH[,server]")
