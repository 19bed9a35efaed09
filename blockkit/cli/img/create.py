"""``blockkit img create``."""

from __future__ import annotations

from blockkit.cli.declare import AS_QEMU_IMG, WrongWordsError, argument, declared, option
from blockkit.cli.images import creation_options
from blockkit.cli.output import echo
from blockkit.cli.parameters import FORMAT, IMAGE, SIZE, object_option, quiet_option


@declared(
    "create",
    help="Make a new image of SIZE bytes (with a suffix: 10G), or of the size of its backing file.",
    examples=(
        "blockkit img create -f qcow2 disk.qcow2 10G",
        "blockkit img create -f qcow2 -o cluster_size=2M,compression_type=zstd disk.qcow2 1T",
        "blockkit img create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2",
        "blockkit img create -f qcow2 -o help",
    ),
    **AS_QEMU_IMG,
)
@argument("image", type=IMAGE, required=False)
@argument("size", type=SIZE, required=False)
@option("-f", "fmt", type=FORMAT, default="raw", show_default=True, help="Format of the new image.")
@option("-o", "options", multiple=True, metavar="NAME=VALUE,...", help="Creation options; 'help' lists them.")
@option("-b", "backing_file", type=IMAGE, help="Backing file, recorded as given.")
@option("-F", "backing_format", type=FORMAT, help="Format of the backing file.")
@option("-u", "unchecked", is_flag=True, help="Do not open the backing file; a size is needed then.")
@quiet_option
@object_option
def command(
    image: str | None,
    size: int | None,
    fmt: str,
    options: tuple[str, ...],
    backing_file: str | None,
    backing_format: str | None,
    unchecked: bool,
    quiet: bool,
) -> None:
    """Check the request, tell it, and do it."""
    if any(word in ("help", "?") for text in options for word in text.split(",")):
        print_option_help(fmt)
        return
    if image is None:
        raise WrongWordsError("the name of the new image is missing")
    from blockkit.img.create import CreateRequest, plan

    new = plan(CreateRequest(image, fmt, size, creation_options(options), backing_file, backing_format, not unchecked))
    if not quiet:
        echo(f"Formatting '{image}', fmt={fmt} " + " ".join(f"{name}={value}" for name, value in new.told()))
    new.create()


def print_option_help(fmt: str, *, sized: bool = True) -> None:
    """List the creation options of a format; without the size where that is the source's."""
    from blockkit.img.create import option_help

    echo(f"Supported {fmt} options:")
    for name, kind, meaning in option_help(fmt):
        if name == "size" and not sized:
            continue
        echo(f"  {f'{name}={kind}':<34} - {meaning}")
