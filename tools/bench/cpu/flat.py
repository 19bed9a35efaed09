#!/usr/bin/env python3
"""Print assembly: 125,000 instructions of flat code, each of which runs once a turn."""

from __future__ import annotations

import random

REGISTERS = ("rax", "rcx", "rdx", "rbx", "r8", "r9", "r10", "r11")
NARROW = ("eax", "ecx", "edx", "ebx", "r8d", "r9d", "r10d", "r11d")


def lines(count: int) -> list[str]:
    """Return so many instructions, some of which are jumps to what follows."""
    rng = random.Random(125)
    made = []
    for number in range(count):
        a, b = rng.randrange(8), rng.randrange(8)
        kind = rng.random()
        if kind < 0.25:
            made.append(f"{rng.choice(('add', 'sub', 'xor', 'and', 'or'))} %{REGISTERS[a]}, %{REGISTERS[b]}")
        elif kind < 0.4:
            made.append(f"{rng.choice(('add', 'sub', 'cmp'))} ${rng.randrange(1, 100000)}, %{NARROW[a]}")
        elif kind < 0.55:
            made.append(f"mov %{NARROW[a]}, %{NARROW[b]}")
        elif kind < 0.7:
            made.append(f"mov {rng.randrange(0, 4096, 8)}(%rdi), %{REGISTERS[a]}")
        elif kind < 0.8:
            made.append(f"mov %{REGISTERS[a]}, {rng.randrange(0, 4096, 8)}(%rdi)")
        elif kind < 0.85:
            made.append(f"lea {rng.randrange(64)}(%{REGISTERS[a]},%{REGISTERS[b]},4), %{REGISTERS[a]}")
        elif kind < 0.9:
            made.append(f"shl ${rng.randrange(1, 31)}, %{NARROW[a]}")
        else:
            made.append(f"{rng.choice(('jc', 'jz', 'js', 'jmp'))} .L{number}\n.L{number}:")
    return made


def main() -> None:
    """Print the function ``flat``."""
    print(".globl flat\nflat: push %rbx\n push %rbp\n mov %rdi, %rbp\n mov $area, %edi\n1:")
    print("\n".join(lines(125_000)))
    print("dec %rbp\n jnz 1b\n pop %rbp\n pop %rbx\n ret\n.bss\n.align 4096\narea: .skip 4096")


if __name__ == "__main__":
    main()
