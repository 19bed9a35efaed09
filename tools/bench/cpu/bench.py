"""Compare the processor with QEMU TCG: the same static guest, the same hour, CPU time.

Builds the guest beside this file with gcc, then runs each program on both, in turns, several times. What QEMU needs to
start and to come to the guest is measured too (a program of no turns), and taken off; ours is measured from the first
instruction, with its code already compiled. Needs gcc, binutils, qemu-system-x86_64 and blockkit[jit].
"""

from __future__ import annotations

import argparse
import math
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
FLAGS = (
    *("-O1", "-ffreestanding", "-fno-pic", "-mno-red-zone", "-mno-sse", "-mno-mmx", "-fno-stack-protector"),
    *("-fno-asynchronous-unwind-tables", "-fcf-protection=none"),
)


class Program(NamedTuple):
    """One of the guest's programs.

    Attributes:
        name: For people.
        number: For the guest.
        turns: How often it does what it does.
    """

    name: str
    number: int
    turns: int


PROGRAMS = (
    Program("sieve", 0, 1200),
    Program("memory copy", 1, 20_000),
    Program("CRC", 2, 4_000),
    Program("calls and returns", 3, 5_000),
    Program("sort", 4, 800),
    Program("SSE2 floats", 5, 300),
    Program("page faults", 6, 1500),
    Program("system calls", 7, 5_000_000),
    Program("port I/O", 8, 8_000_000),
    Program("flat code, once", 9, 1),
)
EXIT = 0xF4


def build(directory: Path) -> Path:
    """Compile the guest; return a multiboot ELF."""
    flat = directory / "flat.s"
    flat.write_text(
        subprocess.run([sys.executable, HERE / "flat.py"], check=True, capture_output=True, text=True).stdout
    )
    objects = [directory / name for name in ("start.o", "guest.o", "flat.o")]
    for source, made in zip((HERE / "start.S", HERE / "guest.c", flat), objects, strict=True):
        subprocess.run(["gcc", *FLAGS, "-c", source, "-o", made], check=True)
    elf = directory / "guest"
    command = ["ld", "-nostdlib", "-static", "-T", HERE / "guest.ld", "-z", "noexecstack", "--no-warn-rwx-segments"]
    subprocess.run([*command, "-o", elf, *objects], check=True)
    subprocess.run(["objcopy", "-O", "elf32-i386", elf, directory / "guest32"], check=True)
    return directory / "guest32"


def qemu(guest: Path, program: Program, turns: int) -> float:
    """Return the CPU time of QEMU, in seconds."""
    command = ["qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-nodefaults", "-no-reboot"]
    command += ["-device", f"isa-debug-exit,iobase={EXIT:#x}", "-kernel", str(guest), "-append", _line(program, turns)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _line(program: Program, turns: int) -> str:
    return f"{program.number} {turns}"


def ours(guest: Path, program: Program, turns: int, accelerator: str) -> tuple[float, int]:
    """Run on our processor; return the CPU time in seconds and how many instructions it was."""
    from blockkit.cpu import state
    from blockkit.cpu.accelerator import Region
    from blockkit.emul.machine import Bus, End, Machine
    from blockkit.emul.memory import new_memory
    from blockkit.emul.spaces import Ports

    if accelerator == "jit":
        from blockkit.cpu.jit import JitAccelerator as Chosen
    else:
        from blockkit.cpu.portable import PythonAccelerator as Chosen
    bus = Bus()
    ram = new_memory(64 << 20)
    bus.add_memory(Region(0, ram))
    machine = Machine(Chosen(), bus)
    # Virtual time is to be instructions alone.
    machine.cpu.port_time = 0
    bus.ports.map(EXIT, 4, Ports(write=lambda *_: machine.stop(End.EXIT)))
    data = guest.read_bytes()
    entry, table = struct.unpack_from("<II", data, 24)
    size, count = struct.unpack_from("<HH", data, 42)
    for number in range(count):
        kind, offset, _, address, length = struct.unpack_from("<5I", data, table + number * size)
        if kind == 1:
            ram[address : address + length] = data[offset : offset + length]
    information, text = 0x1000, 0x2000
    ram[text : text + 64] = f"guest {_line(program, turns)}".encode().ljust(64, b"\0")
    ram[information + 16 : information + 20] = struct.pack("<I", text)
    slots = machine.cpu.get_state()
    for register in range(6):
        slots[state.SEGMENT_BASES + register], slots[state.SEGMENT_LIMITS + register] = 0, 0xFFFFFFFF
        slots[state.SEGMENT_ATTRIBUTES + register] = 0xC09B if register == state.CS else 0xC093
    slots[state.CR0], slots[state.RIP], slots[state.RBX] = state.CR0_PE | state.CR0_ET, entry, information
    machine.cpu.set_state(slots)
    before = time.process_time()
    end = machine.run()
    spent = time.process_time() - before
    assert end is End.EXIT, end
    return spent, machine.cpu.executed


def measure(guest: Path, program: Program, repeat: int) -> tuple[float, float, int]:
    """Return the medians of QEMU's and of our CPU time, and the instructions."""
    theirs, base, mine, count = [], [], [], 0
    for _ in range(repeat):
        base.append(qemu(guest, PROGRAMS[0], 0))
        theirs.append(qemu(guest, program, program.turns))
        command = [sys.executable, __file__, "--one", str(guest), str(program.number)]
        spent, executed = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=120
        ).stdout.split()
        mine.append(float(spent))
        count = int(executed)
    return max(median(theirs) - median(base), 1e-3), median(mine), count


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="how often each is run (default 5)")
    parser.add_argument("--only", type=int, action="append", help="numbers of programs")
    parser.add_argument("--one", nargs=2, metavar=("GUEST", "NUMBER"), help=argparse.SUPPRESS)
    parser.add_argument("--python", action="store_true", help="the portable processor by itself, a few turns of each")
    given = parser.parse_args(arguments)
    if given.one:
        program = PROGRAMS[int(given.one[1])]
        print(*ours(Path(given.one[0]), program, program.turns, "jit"))
        return
    with tempfile.TemporaryDirectory() as directory:
        guest = build(Path(directory))
        if given.python:
            for program in PROGRAMS[:-1]:
                spent, count = ours(guest, program, max(1, program.turns // 600), "python")
                print(f"{program.name:20} {count / spent / 1e6:6.2f} MIPS")
            return
        print(f"{'program':20} {'QEMU s':>8} {'ours s':>8} {'ratio':>6} {'MIPS':>7}")
        ratios = []
        for program in PROGRAMS:
            if given.only and program.number not in given.only:
                continue
            theirs, mine, count = measure(guest, program, given.repeat)
            ratios.append(theirs / mine)
            print(
                f"{program.name:20} {theirs:8.3f} {mine:8.3f} {ratios[-1]:6.2f} {count / mine / 1e6:7.0f}", flush=True
            )
        print(f"{'geometric mean':38} {math.exp(sum(map(math.log, ratios)) / len(ratios)):6.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
