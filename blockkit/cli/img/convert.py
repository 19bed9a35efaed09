"""``blockkit img convert``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cli.declare import AS_QEMU_IMG, Integer, WrongWordsError, argument, declared, option
from blockkit.cli.images import creation_options, policy_named, warn
from blockkit.cli.parameters import FORMAT, IMAGE, SIZE, cache_option, format_option, opening, quiet_option
from blockkit.cli.progress import watch, watching

if TYPE_CHECKING:
    from blockkit.img.convert import ConvertResult


@declared(
    "convert",
    help="Copy one SOURCE, or several as one disk, into a new image TARGET. '-' is standard input, or output.",
    examples=(
        "blockkit img convert -O qcow2 disk.raw disk.qcow2",
        "blockkit img convert -p -c -O qcow2 -o compression_type=zstd disk.raw disk.qcow2",
        "blockkit img convert -O qcow2 -B base.qcow2 -F qcow2 disk.qcow2 overlay.qcow2",
        "blockkit img convert -O qcow2 disk.raw - | ssh host 'cat > disk.qcow2'",
    ),
    **AS_QEMU_IMG,
)
@argument("images", nargs=-1, type=IMAGE, metavar="SOURCE... TARGET")
@format_option(what="the sources")
@option("-O", "output_format", type=FORMAT, default="raw", show_default=True, help="Format of the target.")
@option("-o", "options", multiple=True, metavar="NAME=VALUE,...", help="Creation options; 'help' lists them.")
@option("-c", "compress", is_flag=True, help="Store clusters compressed.")
@option(
    "-S", "sparse_size", type=SIZE, help="Runs of this many zero bytes are left out; 0 allocates all.  [default: 4K]"
)
@option("-n", "keep_target", is_flag=True, help="Write into an existing target.")
@option("-m", "workers", type=Integer(1, 16), help="Requests in flight.")
@option(
    "-W",
    "in_any_order",
    is_flag=True,
    expose_value=False,
    help="The target may be written in any order, as it is anyway.",
)
@option("-C", "copy_offload", is_flag=True, help="Let the host copy ranges by itself.")
@option("-r", "rate_limit", type=SIZE, default=0, help="Bytes per second; no limit by default.")
@option("-B", "backing_file", type=IMAGE, help="Backing file of the target; what it shows is not stored again.")
@option("-F", "backing_format", type=FORMAT, help="Format of the backing file.")
@cache_option("-t", "target_cache", "unsafe", "the target")
@cache_option("-T", "source_cache", "writeback", "the sources")
@option("-l", "snapshot", metavar="SNAPSHOT", help="Not supported.")
@option("--bitmaps", is_flag=True, help="Not supported.")
@option("--salvage", is_flag=True, help="Where a source cannot be read, write zeros and go on.")
@option("--target-is-zero", is_flag=True, help="With -n: the target reads as zeros already.")
@option("--target-image-opts", is_flag=True, help="With -n: the target is an option string.")
@quiet_option
@watching
@opening
def command(
    images: tuple[str, ...],
    fmt: str | None,
    output_format: str,
    options: tuple[str, ...],
    compress: bool,
    sparse_size: int | None,
    keep_target: bool,
    workers: int | None,
    copy_offload: bool,
    rate_limit: int,
    backing_file: str | None,
    backing_format: str | None,
    target_cache: str,
    source_cache: str,
    snapshot: str | None,
    bitmaps: bool,
    salvage: bool,
    target_is_zero: bool,
    target_image_opts: bool,
    quiet: bool,
    show: bool,
    mode: str | None,
    share: bool,
    image_opts: bool,
    policy: str,
) -> None:
    """Convert, and tell what could not be read."""
    if any(word in ("help", "?") for text in options for word in text.split(",")):
        from blockkit.cli.img.create import print_option_help

        print_option_help(output_format, sized=False)
        return
    if snapshot is not None:
        raise WrongWordsError(f"-l {snapshot!r}: internal snapshots cannot be converted")
    if bitmaps:
        raise WrongWordsError("--bitmaps: bitmaps cannot be copied")
    if len(images) < 2:
        raise WrongWordsError("a source and a target are needed")
    if copy_offload and sparse_size is not None:
        raise WrongWordsError("-C and -S exclude each other")
    from blockkit.img.convert import convert
    from blockkit.img.request import DEFAULT_SPARSE_SIZE, STANDARD_STREAM, ConvertRequest

    chosen = creation_options(options)
    if keep_target and chosen:
        warn("-o has no effect on an existing target (-n)")
        chosen = {}
    request = ConvertRequest(
        inputs=images[:-1],
        output=images[-1],
        source_format=fmt,
        output_format=output_format,
        backing_file=backing_file or chosen.pop("backing_file", None),
        backing_format=backing_format or chosen.pop("backing_fmt", None),
        options=chosen,
        compress=compress,
        sparse_size=DEFAULT_SPARSE_SIZE if sparse_size is None else sparse_size,
        create=not keep_target,
        workers=workers,
        copy_offload=copy_offload,
        rate_limit=rate_limit,
        target_cache=target_cache,
        source_cache=source_cache,
        force_share=share,
        salvage=salvage,
        target_is_zero=target_is_zero,
        image_opts=image_opts,
        target_image_opts=target_image_opts,
        progress=watch(show, mode, quiet=quiet, stdout_free=images[-1] != STANDARD_STREAM),
        policy=policy_named(policy),
    )
    result = convert(request)
    if not quiet:
        _tell_unreadable(result)


def _tell_unreadable(result: ConvertResult) -> None:
    for offset, length, error in result.unreadable:
        warn(f"{length} bytes at {offset:#x} could not be read and are zeros: {error}")
    told = sum(length for _, length, _ in result.unreadable)
    if told < result.unreadable_size:
        warn(f"{result.unreadable_size - told} more bytes could not be read and are zeros")
