"""The monitor for people: words and a few lines of text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.emul.keys import chord
from blockkit.emul.monitor import examine
from blockkit.emul.screen import screen_text
from blockkit.emul.session import Status
from blockkit.errors import OptionError, UsageError
from blockkit.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.session import Session

_SEGMENTS: Final = ("ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR")


def _status(session: Session) -> str:
    if session.status is Status.RUNNING:
        return "VM status: running"
    why = "" if session.status is Status.PAUSED else f" ({session.status.value})"
    return f"VM status: paused{why}"


def _block(session: Session) -> str:
    lines = []
    for drive in session.built.drives:
        ways = [drive.node.driver, *(["read-only"] if drive.disk.read_only else [])]
        ways += ["snapshot"] if drive.config.snapshot else []
        lines.append(f"{drive.name}: {drive.config.name} ({', '.join(ways)})")
        lines.append(f"    Attached to:      {drive.config.interface}")
        lines.append(f"    Size:             {format_size(drive.node.size)} ({drive.node.size} bytes)")
        if drive.disk.failures:
            lines.append(f"    Failed requests:  {len(drive.disk.failures)}")
    return "\n".join(lines) or "no disks"


def _registers(session: Session) -> str:
    slots = session.pc.cpu.get_state()
    names = [name.upper().ljust(3) for name in state.REGISTERS]
    pairs = [f"{name}={slots[number]:016x}" for number, name in enumerate(names)]
    lines = [" ".join(pairs[at : at + 4]) for at in range(0, 16, 4)]
    flags = state.rflags(slots)
    lines.append(f"RIP={slots[state.RIP]:016x} RFL={flags:08x} CPL={slots[state.CPL]} HLT={slots[state.HALT]}")
    for number, name in enumerate(_SEGMENTS):
        base, limit = slots[state.SEGMENT_BASES + number], slots[state.SEGMENT_LIMITS + number]
        attributes = slots[state.SEGMENT_ATTRIBUTES + number]
        selector = slots[state.SELECTORS + number]
        lines.append(f"{name:<3} ={selector:04x} {base:016x} {limit:08x} {attributes << 8:08x}")
    lines.append(f"GDT=     {slots[state.GDT_BASE]:016x} {slots[state.GDT_LIMIT]:08x}")
    lines.append(f"IDT=     {slots[state.IDT_BASE]:016x} {slots[state.IDT_LIMIT]:08x}")
    lines.append(
        f"CR0={slots[state.CR0]:08x} CR2={slots[state.CR2]:016x} CR3={slots[state.CR3]:016x} CR4={slots[state.CR4]:08x}"
        f" EFER={slots[state.EFER]:016x}"
    )
    return "\n".join(lines)


def _exits(session: Session) -> str:
    counts = session.accesses
    return "accesses are not counted; start with --exits" if counts is None else "\n".join(counts.table())


def _version(_session: Session) -> str:
    from blockkit import __version__

    return f"blockkit {__version__}"


INFO: Final[dict[str, tuple[Callable[[Session], str], str]]] = {
    "status": (_status, "whether the machine runs"),
    "block": (_block, "the disks"),
    "registers": (_registers, "the processor's registers"),
    "exits": (_exits, "accesses to registers of devices"),
    "screen": (lambda session: screen_text(session.pc), "the screen as text"),
    "time": (lambda session: f"{session.pc.clock.now() / 1e9:.6f} s", "virtual time"),
    "version": (_version, "the version of this program"),
}


def _silently(act: Callable[[Session], None]) -> Callable[[Session], str]:
    def command(session: Session) -> str:
        act(session)
        return ""

    return command


COMMANDS: Final[dict[str, tuple[Callable[[Session], str], str]]] = {
    "cont": (_silently(lambda session: session.cont()), "go on"),
    "quit": (_silently(lambda session: session.quit()), "end the machine and this program"),
    "stop": (_silently(lambda session: session.stop()), "stand still"),
    "system_powerdown": (_silently(lambda session: session.press_power_button()), "press the power button"),
    "system_reset": (_silently(lambda session: session.reset()), "press the reset button"),
}
#: Commands with a format and an expression: what they do, and what they are for.
EXPRESSIONS: Final[dict[str, tuple[Callable[[Session, examine.Format, str], str], str]]] = {
    "x": (examine.show, "memory at a linear address, instructions with /10i; $pc is the next one"),
    "xp": (lambda session, how, text: examine.show(session, how, text, physical=True), "at a physical address"),
    "print": (examine.show_value, "the value of an expression"),
}
_EXPRESSION: Final = re.compile(r"\s*(x|xp|p|print)(?:\s*(/\S*))?(?:\s+(.*))?")
_SHORT: Final = {"c": "cont", "p": "print", "q": "quit", "?": "help"}


def execute(session: Session, line: str) -> str:
    """Do what a line says; returns what there is to print, with a line feed at its end unless it is nothing."""
    words = line.split()
    if not words:
        return ""
    name = _SHORT.get(words[0], words[0])
    if expression := _EXPRESSION.fullmatch(line):
        text = _evaluate(session, *expression.groups())
    elif name == "help":
        text = _help()
    elif name == "info":
        if len(words) != 2 or words[1] not in INFO:
            text = "\n".join(f"info {each:<10} {meaning}" for each, (_, meaning) in INFO.items())
        else:
            text = INFO[words[1]][0](session)
    elif name == "sendkey":
        text = _send_key(session, words[1:])
    elif name in COMMANDS:
        text = COMMANDS[name][0](session)
    else:
        text = f"unknown command: '{words[0][:40]}'; try help"
    return text + "\n" if text else ""


def _send_key(session: Session, words: list[str]) -> str:
    if not words:
        return "sendkey: no keys are named; expected such as ctrl-alt-delete"
    try:
        session.pc.keyboard.press(chord(words[0]))
    except OptionError as error:
        return f"sendkey: {error}"
    return ""


def _evaluate(session: Session, name: str, how: str | None, expression: str | None) -> str:
    try:
        found = examine.parse_format(how) if how else examine.Format()
        if not expression or not expression.strip():
            raise UsageError("an expression is missing")
        return EXPRESSIONS[_SHORT.get(name, name)][0](session, found, expression)
    except UsageError as error:
        return f"{name}: {error}"


def _help() -> str:
    rows = [(name, meaning) for name, (_, meaning) in COMMANDS.items()]
    rows.append(("sendkey KEYS", "press keys together: a, ret, ctrl-alt-delete"))
    rows += [(f"{name} /FMT EXPR", meaning) for name, (_, meaning) in EXPRESSIONS.items()]
    rows.append(("info WHAT", ", ".join(INFO)))
    return "\n".join(f"{name:<18} {meaning}" for name, meaning in rows)
