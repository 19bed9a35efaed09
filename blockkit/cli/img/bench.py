"""``blockkit img bench``."""

from __future__ import annotations

from blockkit.cli.declare import AS_QEMU_IMG, INTEGER, Choice, WrongWordsError, declared, option
from blockkit.cli.images import open_named
from blockkit.cli.output import echo
from blockkit.cli.parameters import SIZE, cache_option, format_option, image_argument, opening, quiet_option
from blockkit.cli.progress import watch, watching
from blockkit.units import format_size


@declared(
    "bench",
    help="Send requests of one size to IMAGE, one after the other in its address space, and tell the time they take.",
    examples=(
        "blockkit img bench -c 10000 -d 4 disk.qcow2",
        "blockkit img bench -w -s 64K -f raw --pattern 170 scratch.raw",
    ),
    **AS_QEMU_IMG,
)
@image_argument()
@option("-c", "--count", type=INTEGER, default=75000, show_default=True, help="Requests in all.")
@option("-d", "--depth", type=INTEGER, default=64, show_default=True, help="Requests in flight, each with a thread.")
@format_option()
@option("--flush-interval", type=INTEGER, default=0, help="Flush after so many writes.")
@option("-i", "--aio", type=Choice("threads"), expose_value=False, help="How requests are sent: by threads.")
@option("-n", "--native", is_flag=True, help="Not supported.")
@option("--no-drain", is_flag=True, help="Do not wait for requests in flight before a flush.")
@option("-o", "--offset", type=SIZE, default=0, help="Where the first request starts.")
@option("--pattern", type=INTEGER, default=0, help="The byte to write, 0 to 255.")
@option("-s", "--buffer-size", type=SIZE, default=4096, help="Bytes of a request.  [default: 4K]")
@option("-S", "--step-size", type=SIZE, default=0, help="Bytes between two requests; as many as one has, by default.")
@cache_option("-t", "cache", "writeback")
@option("-w", "write", is_flag=True, help="Write. What IMAGE holds is lost.")
@quiet_option
@watching
@opening
def command(
    image: str,
    count: int,
    depth: int,
    fmt: str | None,
    flush_interval: int,
    native: bool,
    no_drain: bool,
    offset: int,
    pattern: int,
    buffer_size: int,
    step_size: int,
    cache: str,
    write: bool,
    quiet: bool,
    show: bool,
    mode: str | None,
    share: bool,
    image_opts: bool,
    policy: str,
) -> None:
    """Measure and tell."""
    if native:
        raise WrongWordsError("-n: native asynchronous I/O is not supported, requests are sent by threads")
    from blockkit.img.bench import BenchRequest, bench

    request = BenchRequest(
        count=count,
        depth=depth,
        buffer_size=buffer_size,
        step=step_size,
        offset=offset,
        write=write,
        pattern=pattern,
        flush_interval=flush_interval,
        drain=not no_drain,
        progress=watch(show, mode, quiet=quiet),
    )
    with open_named(
        image, fmt, image_opts=image_opts, share=share, policy=policy, cache=cache, read_only=not write
    ) as node:
        if not quiet:
            kind = "write" if write else "read"
            echo(
                f"Sending {count} {kind} requests, {buffer_size} bytes each, {depth} in parallel "
                f"(starting at offset {offset}, step size {request.stride})"
            )
            if flush_interval:
                echo(f"Sending flush every {flush_interval} requests")
        seconds = bench(node, request)
    echo(f"Run completed in {seconds:.3f} seconds.")
    if not quiet and seconds and count:
        echo(f"{count / seconds:.0f} requests/s, {format_size(int(count * buffer_size / seconds))}/s")
