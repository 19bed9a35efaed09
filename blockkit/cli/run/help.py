"""How click shows ``blockkit run``: options in groups, keys, and a guest's own exit codes."""

from __future__ import annotations

from typing import Final

import click

from blockkit.cli.clicking import DeclaredCommand

#: Which options stand together.
GROUPS: Final = {
    "Disks": ("drives", "cdrom", "snapshot", "policy"),
    "What is started": ("kernel", "initrd", "append", "kernel_decompress", "bios", "load", "force_load"),
    "The machine": ("memory", "accel", "cpu", "vga", "hpet", "clock", "seed", "realtime", "reboot"),
    "Around it": ("serial", "monitor", "gdb"),
    "How it ends": ("until", "timeout", "save"),
    "Looking inside": ("exits", "trace"),
}


class RunCommand(DeclaredCommand):
    """A command whose options are listed in groups, and whose guest has exit codes of its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        records = {each.name: each.get_help_record(ctx) for each in options}
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([found for name in names if (found := records.pop(name, None))])
        with formatter.section("Others"):
            formatter.write_dl([found for found in records.values() if found])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Keys"):
            formatter.write_dl(
                [
                    ("Ctrl-A h", "help"),
                    ("Ctrl-A x", "quit"),
                    ("Ctrl-A c", "monitor or guest"),
                    ("Ctrl-A Ctrl-A", "Ctrl-A"),
                ]
            )
        super().format_epilog(ctx, formatter)
        with formatter.section("A guest's own code"):
            formatter.write_text("A guest that writes N to port 501h ends the machine with exit code 2N+1, as in QEMU.")
