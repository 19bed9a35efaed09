"""``blockkit img dd``."""

from __future__ import annotations

from blockkit.cli.declare import AS_QEMU_IMG, argument, declared, option
from blockkit.cli.images import creation_options, open_named, warn
from blockkit.cli.parameters import FORMAT, format_option, opening, quiet_option
from blockkit.cli.progress import watch, watching


@declared(
    "dd",
    help="Copy blocks of one image into a new one: if=IMAGE of=IMAGE [bs=SIZE] [count=BLOCKS] [skip=BLOCKS]. "
    "As in qemu-img, count includes the blocks that are skipped.",
    examples=(
        "blockkit img dd -O qcow2 bs=1M if=disk.raw of=disk.qcow2",
        "blockkit img dd bs=512 count=1 if=disk.qcow2 of=boot-sector.raw",
    ),
    **AS_QEMU_IMG,
)
@argument("operands", nargs=-1, metavar="if=IMAGE of=IMAGE [bs=SIZE] [count=BLOCKS] [skip=BLOCKS]")
@format_option(what="the source")
@option("-O", "output_format", type=FORMAT, default="raw", show_default=True, help="Format of the new image.")
@option("-o", "options", multiple=True, metavar="NAME=VALUE,...", help="Its creation options.")
@quiet_option
@watching
@opening
def command(
    operands: tuple[str, ...],
    fmt: str | None,
    output_format: str,
    options: tuple[str, ...],
    quiet: bool,
    show: bool,
    mode: str | None,
    share: bool,
    image_opts: bool,
    policy: str,
) -> None:
    """Copy."""
    from blockkit.img.dd import DdRequest, Operands, dd

    wanted = Operands.parse(operands)
    request = DdRequest(wanted, output_format, creation_options(options), watch(show, mode, quiet=quiet))
    with open_named(wanted.source, fmt, image_opts=image_opts, share=share, policy=policy) as source:
        copied = dd(request, source)
    if not copied and wanted.skip and not quiet:
        warn(f"{wanted.source}: nothing is left after skipping {wanted.skip} blocks")
