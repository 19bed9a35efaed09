"""``blockkit img measure``."""

from __future__ import annotations

from blockkit.cli.declare import AS_QEMU_IMG, WrongWordsError, declared, option
from blockkit.cli.images import creation_options, open_named
from blockkit.cli.output import echo, print_json
from blockkit.cli.parameters import FORMAT, SIZE, format_option, image_argument, opening, output_option


@declared(
    "measure",
    help="Tell how large a new image would be that holds what IMAGE holds, or an empty disk of --size bytes.",
    examples=(
        "blockkit img measure -O qcow2 disk.raw",
        "blockkit img measure -O qcow2 -o cluster_size=2M --size 1T",
    ),
    **AS_QEMU_IMG,
)
@image_argument(required=False)
@format_option()
@option("-O", "output_format", type=FORMAT, default="raw", show_default=True, help="Format of the new image.")
@option("-o", "options", multiple=True, metavar="NAME=VALUE,...", help="Its creation options.")
@option("-s", "--size", type=SIZE, help="Size of the disk, in place of an image.")
@option("-l", "--snapshot-name", "snapshot", metavar="SNAPSHOT", help="Not supported.")
@output_option
@opening
def command(
    image: str | None,
    fmt: str | None,
    output_format: str,
    options: tuple[str, ...],
    size: int | None,
    snapshot: str | None,
    output: str,
    share: bool,
    image_opts: bool,
    policy: str,
) -> None:
    """Measure and print."""
    if snapshot is not None:
        raise WrongWordsError(f"-l {snapshot!r}: internal snapshots cannot be measured")
    if any(word in ("help", "?") for text in options for word in text.split(",")):
        from blockkit.cli.img.create import print_option_help

        print_option_help(output_format, sized=False)
        return
    if (image is None) == (size is None):
        raise WrongWordsError("either an image or --size is needed, and not both")
    from blockkit.img.measure import as_json, measure

    chosen = creation_options(options)
    if size is not None:
        found = measure(output_format, chosen, size)
    else:
        assert image is not None, "one of the two is there"
        with open_named(image, fmt, image_opts=image_opts, share=share, policy=policy) as node:
            found = measure(output_format, chosen, node)
    if output == "json":
        print_json(as_json(found))
        return
    echo(f"required size: {found.required}\nfully allocated size: {found.fully_allocated}")
    if found.bitmaps is not None:
        echo(f"bitmaps size: {found.bitmaps}")
