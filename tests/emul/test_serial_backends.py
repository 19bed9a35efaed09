"""What the serial port is connected to."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from blockkit.emul.serial.backends import UnixBackend

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_said_to_a_socket_of_somebody_else_before_it_is_listened_to_is_not_lost(tmp_path: Path) -> None:
    path = str(tmp_path / "serial")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        backend = UnixBackend(path, server=False)
        peer = listener.accept()[0]
        with peer:
            peer.settimeout(10)
            backend.write(b"early")
            assert peer.recv(10) == b"early"
            heard: list[bytes] = []
            backend.start(heard.append)
            backend.write(b"late")
            assert peer.recv(10) == b"late"
            backend.close()
            assert peer.recv(10) == b""
