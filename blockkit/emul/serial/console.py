"""The wire between a serial port and a backend: bytes out between two slices, bytes in through the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from blockkit.emul.serial.backends import Backend
    from blockkit.emul.session import Session

#: Bytes that wait for the guest before the backend waits too.
_MOST_WAITING: Final = 4096


class Console:
    """Joins a machine's serial port and a backend until it is closed.

    Args:
        session: The machine.
        backend: Where the port leads; closed in the end.
    """

    def __init__(self, session: Session, backend: Backend) -> None:
        self._session, self._backend = session, backend
        self._closed = False
        self._shown = session.built.serial.end
        session.pc.between.append(self.flush)
        if backend.interactive:
            session.inputs += 1
        backend.ready = lambda: self._closed or session.pc.serial.backlog <= _MOST_WAITING
        backend.start(lambda data: session.call_soon(lambda: session.pc.serial.receive(data)))

    def flush(self) -> None:
        """Hand on what the guest has sent."""
        log = self._session.built.serial
        if log.end != self._shown:
            data, self._shown = log.since(self._shown), log.end
            self._backend.write(data)

    def close(self) -> None:
        """Hand on the rest, and let go of the backend."""
        self._closed = True
        self._session.pc.between.remove(self.flush)
        try:
            self.flush()
        finally:
            self._backend.close()
