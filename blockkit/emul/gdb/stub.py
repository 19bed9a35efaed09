"""What a debugger asks for, and what it is told (Debugging with GDB, E.2 to E.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.cpu import state
from blockkit.emul.gdb import registers
from blockkit.emul.gdb.memory import LinearMemory
from blockkit.emul.gdb.packets import LONGEST
from blockkit.emul.monitor import human
from blockkit.emul.session import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.session import Session

_OK: Final = "OK"
_INTERRUPTED, _TRAPPED = "S02", "S05"
_BAD_ARGUMENT, _BAD_ADDRESS, _CANNOT = "E16", "E0e", "E5f"
_MOST_BREAKPOINTS: Final = 1000


class Stub:
    """One debugger; everything is called in the machine's thread.

    Args:
        session: The machine.
        send: Takes the data of each packet for the debugger.
    """

    def __init__(self, session: Session, send: Callable[[str], None]) -> None:
        self._session, self._send = session, send
        self._is_64 = False
        self._waits = False
        self._stop_reply = _TRAPPED
        self._attached = True

    def begin(self) -> None:
        """Let the machine stand still: a debugger has come."""
        self._session.listeners.append(self._event)
        self._session.stop(Status.DEBUG)
        self._is_64 = bool(self._slots()[state.MODE] & state.MODE_64)

    def end(self) -> None:
        """Let it go on: the debugger has gone."""
        if self._attached:
            self._attached = False
            self._session.listeners.remove(self._event)
            self._session.set_breakpoints(frozenset())
            self._session.cont()

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if not self._waits:
            return
        if name == "STOP":
            self._waits = False
            self._send(self._stop_reply)
        elif name == "SHUTDOWN":
            self._waits = False
            self._send(f"W{self._session.exit_code & 0xFF:02x}")

    def interrupt(self) -> None:
        """Stop: the user pressed Ctrl-C."""
        self._stop_reply = _INTERRUPTED
        self._session.stop(Status.DEBUG)

    def handle(self, packet: str) -> None:
        """Do what a packet asks for."""
        try:
            answer = self._answer(packet)
        except (ValueError, IndexError):
            answer = _BAD_ARGUMENT
        if answer is not None:
            self._send(answer)

    def _answer(self, packet: str) -> str | None:
        kind, rest = packet[:1], packet[1:]
        if kind in _SIMPLE:
            return _SIMPLE[kind](self, rest)
        return _QUERIES(self, packet) if kind in "qQ" else ""

    def _slots(self) -> list[int]:
        return self._session.pc.cpu.get_state()

    # -- registers -------------------------------------------------------------------------------------------

    def _known(self) -> tuple[registers.Register, ...]:
        return registers.REGISTERS[self._is_64]

    def _read_all(self, rest: str) -> str:
        slots = self._slots()
        return "".join(_hex(registers.read(slots, each), each.bits // 8) for each in self._known())

    def _write_all(self, rest: str) -> str:
        data, slots = bytes.fromhex(rest), self._slots()
        at = 0
        for each in self._known():
            if at + each.bits // 8 > len(data):
                break
            registers.write(slots, each, int.from_bytes(data[at : at + each.bits // 8], "little"))
            at += each.bits // 8
        self._session.pc.cpu.set_state(slots)
        return _OK

    def _read_one(self, rest: str) -> str:
        number = int(rest, 16)
        if number >= len(self._known()):
            return _BAD_ARGUMENT
        each = self._known()[number]
        return _hex(registers.read(self._slots(), each), each.bits // 8)

    def _write_one(self, rest: str) -> str:
        number, _, value = rest.partition("=")
        slots, each = self._slots(), self._known()[int(number, 16)]
        registers.write(slots, each, int.from_bytes(bytes.fromhex(value), "little"))
        self._session.pc.cpu.set_state(slots)
        return _OK

    # -- memory ----------------------------------------------------------------------------------------------

    def _read_memory(self, rest: str) -> str:
        address, length = (int(part, 16) for part in rest.split(","))
        data = LinearMemory(self._session.pc).read(address, min(length, LONGEST // 2))
        return _BAD_ADDRESS if data is None else data.hex()

    def _write_memory(self, rest: str) -> str:
        where, _, text = rest.partition(":")
        address, length = (int(part, 16) for part in where.split(","))
        data = bytes.fromhex(text)
        if len(data) != length:
            return _BAD_ARGUMENT
        return _OK if LinearMemory(self._session.pc).write(address, data) else _BAD_ADDRESS

    # -- running ---------------------------------------------------------------------------------------------

    def _set_position(self, rest: str) -> None:
        if rest:
            slots = self._slots()
            slots[state.RIP] = int(rest, 16)
            self._session.pc.cpu.set_state(slots)

    def _continue(self, rest: str) -> None:
        self._set_position(rest)
        self._waits, self._stop_reply = True, _TRAPPED
        self._session.cont()

    def _step(self, rest: str) -> str | None:
        self._set_position(rest)
        self._waits = True
        self._session.step()
        if not self._waits:
            return None  # it ended, and that was told
        self._waits = False
        return _TRAPPED

    def _breakpoint(self, rest: str, insert: bool) -> str:
        kind, address, _ = rest.split(",", 2)
        if kind not in "01":
            return ""
        there = self._session.breakpoints
        if insert and (not self._session.can_break or len(there) >= _MOST_BREAKPOINTS):
            return _CANNOT
        one = {int(address, 16)}
        self._session.set_breakpoints(there | one if insert else there - one)
        return _OK

    def _why(self, rest: str) -> str:
        return _TRAPPED

    def _detach(self, rest: str) -> None:
        self._send(_OK)
        self.end()

    def _kill(self, rest: str) -> None:
        self._session.quit()

    # -- questions -------------------------------------------------------------------------------------------

    def _query(self, packet: str) -> str:
        name = packet.partition(":")[0].partition(",")[0]
        if name == "qSupported":
            return f"PacketSize={LONGEST:x};qXfer:features:read+"
        if packet.startswith("qXfer:features:read:target.xml:"):
            offset, length = (int(part, 16) for part in packet.rpartition(":")[2].split(","))
            text = registers.description(self._is_64)
            return ("m" if offset + length < len(text) else "l") + text[offset : offset + length]
        if name == "qRcmd":
            line = bytes.fromhex(packet.partition(",")[2]).decode("utf-8", "replace")
            return human.execute(self._session, line).encode().hex() or _OK
        return {"qAttached": "1", "qC": "QC1", "qfThreadInfo": "m1", "qsThreadInfo": "l"}.get(name, "")


_SIMPLE: Final[dict[str, Callable[[Stub, str], str | None]]] = {
    "?": Stub._why,
    "g": Stub._read_all,
    "G": Stub._write_all,
    "p": Stub._read_one,
    "P": Stub._write_one,
    "m": Stub._read_memory,
    "M": Stub._write_memory,
    "c": Stub._continue,
    "s": Stub._step,
    "Z": lambda stub, rest: stub._breakpoint(rest, True),
    "z": lambda stub, rest: stub._breakpoint(rest, False),
    "D": Stub._detach,
    "k": Stub._kill,
    "H": lambda *_: _OK,
    "T": lambda *_: _OK,
}
_QUERIES: Final = Stub._query


def _hex(value: int, size: int) -> str:
    return value.to_bytes(size, "little").hex()
