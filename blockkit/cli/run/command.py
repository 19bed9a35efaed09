"""The command line of ``blockkit run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cli.declare import FLOAT, Choice, Integer, argument, declared, option
from blockkit.cli.parameters import IMAGE, SIZE

if TYPE_CHECKING:
    from typing import Any

EXITS: Final = {
    0: "the guest powered off; or what --until names appeared; or somebody quit",
    1: "with --until: it did not appear. Or the operation failed",
    2: "the command line is wrong",
    3: "an image, or a saved machine, is at fault",
    4: "the machine cannot be built or run as asked",
    6: "the guest reset the machine, with --no-reboot",
    8: "a triple fault, with --no-reboot",
    10: "the guest waits for an interrupt that nothing will raise",
    12: "a request failed with on_error=stop, and nobody can let the machine go on",
    124: "--timeout is over",
    130: "interrupted",
    143: "terminated",
}


@declared(
    "run",
    shown_by="blockkit.cli.run.help:RunCommand",
    help="Start a PC with DISK, or any number of --drive, and connect its serial port to the terminal.",
    examples=(
        "blockkit run disk.qcow2",
        "blockkit run --snapshot --drive file=disk.qcow2,if=ide,latency=hdd",
        "blockkit run --kernel vmlinuz --initrd initrd.gz --append console=ttyS0 disk.qcow2",
        "blockkit run --cdrom install.iso -m 1G disk.qcow2",
        "blockkit run --until login: --timeout 300 --serial file:boot.log disk.qcow2",
        "blockkit run --exits --trace requests.json disk.qcow2",
        "blockkit run --monitor unix:monitor.sock --gdb 1234 disk.qcow2",
    ),
    exits=EXITS,
)
@argument("disk", type=IMAGE, required=False)
@option(
    "--drive",
    "drives",
    multiple=True,
    metavar="OPTIONS",
    help="A disk: file=NAME, if=virtio|ide|cdrom, format=, "
    "readonly=on, serial=, on_error=report|stop|ignore, latency=ssd|hdd|constant, snapshot=on, cache=, and options of "
    "the image.",
)
@option("--cdrom", type=IMAGE, metavar="FILE", help="A CD-ROM in the drive.")
@option("--snapshot", is_flag=True, help="Keep what is written in a temporary file, and drop it at the end.")
@option(
    "--backing-policy",
    "policy",
    metavar="POLICY",
    default="beneath",
    show_default=True,
    help="Which files named inside an image may be opened: deny, beneath, beneath:DIRECTORY, allow, allow-protocols.",
)
@option("--kernel", type=IMAGE, metavar="FILE", help="Start this bzImage or ELF, without firmware.")
@option("--initrd", type=IMAGE, metavar="FILE", help="Its initial RAM disk.")
@option("--append", default="", metavar="TEXT", help="Its command line.")
@option(
    "--kernel-decompress",
    type=Choice("auto", "host", "guest"),
    default="auto",
    show_default=True,
    help="Who decompresses a bzImage: the host, at once and without KASLR; the guest; or whoever is faster.",
)
@option(
    "--bios",
    default="auto",
    metavar="FILE",
    show_default=True,
    help="Firmware: builtin, seabios (Debian's, if it is installed), auto (that, else builtin), or the file of a ROM.",
)
@option("--load", type=IMAGE, metavar="FILE", help="Go on with a machine that --save has saved.")
@option("--force-load", is_flag=True, help="Go on although its disks have been changed since.")
@option("-m", "--memory", type=SIZE, default=None, metavar="SIZE", help="RAM: 512M.  [default: 256M]")
@option(
    "--accel",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="What runs the processor: auto, kvm, jit, python.",
)
@option(
    "--cpu",
    metavar="MODEL",
    default=None,
    help="What the processor can do: base, max, or base,+aes,-rdrand.  [default: base, but with KVM what the host can]",
)
@option(
    "--vga",
    type=Choice("none", "text"),
    help="Whether there is a screen; shown in the terminal if it is asked for and the serial port is elsewhere."
    "  [default: text, but none with --kernel]",
)
@option("--hpet", is_flag=True, help="There are high precision event timers (HPET).")
@option(
    "--clock",
    metavar="TIME",
    default=None,
    help="What time it is for the guest at the start: 2026-01-31T12:00:00+00:00.",
)
@option(
    "--seed",
    type=Integer(),
    default=0,
    show_default=True,
    help="Of what is random in the machine: of RDRAND, and of what --kernel gives Linux to begin with.",
)
@option(
    "--realtime/--no-realtime",
    default=None,
    help="Let time pass for an idle guest as it does here; without, it jumps.  [default: at a terminal]",
)
@option(
    "--no-reboot", "reboot", flag_value=False, is_flag=True, default=True, help="End when the guest resets the machine."
)
@option(
    "--serial",
    metavar="WHERE",
    help="The serial port: stdio, file:PATH, pty, unix:PATH[,server], none.  [default: stdio, unless the monitor is]",
)
@option("--monitor", metavar="WHERE", help="QMP at stdio or unix:PATH.")
@option("--gdb", metavar="WHERE", help="Wait for gdb at [HOST:]PORT or unix:PATH.")
@option("--until", metavar="TEXT", help="End well when the guest's serial port or screen shows TEXT.")
@option("--timeout", type=FLOAT, metavar="SECONDS", help="End after so many seconds.")
@option("--save", type=IMAGE, metavar="FILE", help="Save the whole machine at the end, for --load.")
@option(
    "--exits", is_flag=True, help="Show a table of accesses to registers of devices, and of those for each request."
)
@option(
    "--trace",
    type=IMAGE,
    metavar="FILE",
    help="Write what becomes of each request: .json for Perfetto, .jsonl, else text.",
)
def command(**words: Any) -> int:
    """Build the machine and run it."""
    from blockkit.cli.run.runner import Settings, run

    return run(Settings(**words))
