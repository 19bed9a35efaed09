"""Keys that are pressed come out of INT 16h of the built-in firmware as they do of SeaBIOS's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.keys import CODES
from tests.guests.debian import firmware_file

if TYPE_CHECKING:
    from pathlib import Path

#: Sends what INT 16h AH=10h gives, both bytes, to the first serial port, for ever.
CODE = bytes.fromhex(
    "fa 31c0 8ed8 8ed0 bc007c fb"  # cli; ax, ds, ss = 0; sp = 7c00h; sti
    "b410 cd16 baf803 ee 88e0 ee ebf3"  # 1: ah = 10h; int 16h; dx = 3f8h; out %al, %dx; al = ah; out %al, %dx; jmp 1b
)
#: Seconds in which a guest reads a key.
SOON = 0.01
#: Locks have lights; and these end it.
_LEFT_OUT = {"caps_lock", "num_lock", "scroll_lock", "ctrl-alt-delete", "ctrl-alt_r-delete"}
_MODIFIERS = ("", "shift-", "ctrl-", "alt-", "shift_r-", "ctrl_r-", "alt_r-", "shift-ctrl-")
CHORDS = [
    f"{modifier}{name}"
    for modifier in _MODIFIERS
    for name in CODES
    if not {name, f"{modifier}{name}"} & _LEFT_OUT and not name.startswith(("shift", "ctrl", "alt"))
]


def keys(path: Path, firmware: str, chords: list[str]) -> dict[str, bytes]:
    """Return what comes out for each, after the locks that are turned on before."""
    path.write_bytes(CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    found = {}
    drive = {"file": str(path), "format": "raw", "if": "ide"}
    with blockkit.Machine([drive], firmware=firmware, memory="64M", accelerator="auto") as vm:
        vm.run_until(1.0)
        serial = vm.session.built.serial
        for each in chords:
            start = serial.end
            vm.press(each)
            vm.run_until(vm.now + SOON)
            found[each] = bytes(serial.since(start))
    return found


def test_keys_are_those_of_an_american_keyboard(tmp_path: Path) -> None:
    expected = {
        "a": b"a\x1e",
        "shift-a": b"A\x1e",
        "ctrl-a": b"\x01\x1e",
        "alt-a": b"\0\x1e",
        "ret": b"\r\x1c",
        "esc": b"\x1b\x01",
        "up": b"\xe0\x48",
        "f1": b"\0\x3b",
        "shift-f1": b"\0\x54",
        "f12": b"\0\x86",
        "delete": b"\xe0\x53",
        "shift": b"",
        "caps_lock": b"",
        "b": b"B\x30",
        "shift-b": b"b\x30",
        "1": b"1\x02",
    }
    assert keys(tmp_path / "disk", "builtin", list(expected)) == expected


@pytest.mark.guest
@pytest.mark.parametrize("locks", [[], ["caps_lock"], ["num_lock"]], ids=lambda names: "-".join(names) or "none")
def test_keys_are_those_of_seabios(locks: list[str], tmp_path: Path) -> None:
    ours, theirs = (keys(tmp_path / "disk", each, [*locks, *CHORDS]) for each in ("builtin", firmware_file("seabios")))
    assert {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]} == {}


def test_keys_that_are_pressed_before_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    with blockkit.Machine([{"file": str(path), "format": "raw"}], firmware="builtin", accelerator="python") as vm:
        vm.press("a", "shift-b")
        vm.run_until(0.01)
        vm.press("c")
        vm.run_until(0.02)
        assert vm.serial_text == "a\x1eB\x30c\x2e"
