"""Converting images: open the sources, make the target, copy, and leave no half-finished file behind."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from blockkit.block.copy import CopyPlan, copy
from blockkit.block.facets import WritesCompressed
from blockkit.block.node import Cap
from blockkit.block.target import Target, files_of
from blockkit.errors import BlockkitError, UsageError, from_os_error, translating
from blockkit.img.request import STANDARD_STREAM
from blockkit.names import parse_name
from blockkit.units import SECTOR, MiB, align_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from blockkit.block.buffers import Buffer
    from blockkit.block.node import Node
    from blockkit.img.progress import Progress
    from blockkit.img.request import ConvertRequest

#: Standard input is taken in pieces of this many bytes.
_PIECE = MiB
#: A target that grows with standard input starts with this virtual size and doubles, bytes.
_FIRST_SIZE = 1 << 30


class ConvertResult:
    """What a conversion did.

    Attributes:
        size: Virtual size of the target, bytes.
        unreadable: Ranges ``(offset, length, error)`` that salvage replaced by zeros; at most a thousand are kept.
        unreadable_size: Bytes of all of them.
    """

    def __init__(self) -> None:
        self.size = 0
        self.unreadable: list[tuple[int, int, str]] = []
        self.unreadable_size = 0
        self._lock = threading.Lock()

    def failed(self, offset: int, length: int, error: BlockkitError) -> None:
        """Note a range that could not be read; called by any worker."""
        with self._lock:
            self.unreadable_size += length
            if self.unreadable and sum(self.unreadable[-1][:2]) == offset:
                start, before, text = self.unreadable[-1]
                self.unreadable[-1] = (start, before + length, text)
            elif len(self.unreadable) < 1000:
                self.unreadable.append((offset, length, str(error)))


def convert(request: ConvertRequest) -> ConvertResult:
    """Carry out ``request``.

    A target made here is removed again if the conversion fails or is interrupted. One that existed stays; if it was
    overwritten by then, a note on the exception tells.

    Raises:
        BlockkitError: nothing, or not everything, was converted.
        BrokenPipeError: whoever read standard output went away.
    """
    _judge(request)
    result = ConvertResult()
    with ExitStack() as stack:
        if request.inputs == (STANDARD_STREAM,):
            source = _standard_input(request)
            if source is None:
                _from_pipe(request, result)
                return result
            stack.enter_context(source)
        else:
            source = _open_sources(request, stack)
        result.size = source.size
        if request.output == STANDARD_STREAM:
            _to_stream(request, source)
        else:
            _to_image(request, source, result)
    return result


def _judge(request: ConvertRequest) -> None:
    """Refuse before the target is touched what its format cannot do."""
    if request.compress and request.create:
        from blockkit.block.driver import Compresses
        from blockkit.formats import format_driver

        driver = format_driver(request.output_format)
        if not (isinstance(driver, Compresses) and driver.compresses):
            raise UsageError(f"convert: -c: images of format {request.output_format} cannot store compressed data")


# -- sources -------------------------------------------------------------------------------------------


def _open_sources(request: ConvertRequest, stack: ExitStack) -> Node:
    """Open all sources as one disk."""
    from blockkit.block.graph import open_image

    parts = []
    for name in request.inputs:
        tree: str | Mapping[str, object] = name
        if request.image_opts:
            from blockkit.options import parse_dotted

            tree = parse_dotted(name)
        parts.append(
            stack.enter_context(
                open_image(
                    tree,
                    format=request.source_format,
                    cache=request.source_cache,
                    share=request.force_share,
                    policy=request.policy,
                )
            )
        )
    if len(parts) == 1:
        return parts[0]
    from blockkit.block.concat import ConcatNode

    return ConcatNode(parts)


def _standard_input(request: ConvertRequest) -> Node | None:
    """Open standard input as a disk if it is a whole file; None for a pipe."""
    from blockkit.block.graph import open_image

    fd = sys.stdin.fileno()
    if not stat.S_ISREG(os.fstat(fd).st_mode) or os.lseek(fd, 0, os.SEEK_CUR):
        return None
    return open_image(
        {"driver": "file", "filename": f"/proc/self/fd/{fd}"},
        format=request.source_format or "raw",
        cache=request.source_cache,
        share=request.force_share,
        policy=request.policy,
    )


# -- to an image ---------------------------------------------------------------------------------------


def _to_image(request: ConvertRequest, source: Node, result: ConvertResult) -> None:
    with _made(request, source.size, source) as (target, place):
        if target.size < source.size:
            raise UsageError(
                f"{request.output}: the target has {target.size} bytes, fewer than the {source.size} of the source"
            )
        over_backing = target.backing is not None and request.backing_file is not None
        fresh = (request.create and target.zero_when_made) or request.target_is_zero
        workers = request.workers or min(4, max(2, os.cpu_count() or 2))
        with _progress(request, source.size) as progress:
            plan = CopyPlan(
                sparse_size=request.sparse_size,
                target_is_zero=fresh,
                over_backing=over_backing,
                compressed=request.compress,
                workers=min(workers, 4 if not request.compress else 16),
                copy_range=request.copy_offload,
                steady=bool(request.rate_limit),
                salvage=request.salvage,
                advance=progress.advance,
                failed=result.failed,
            )
            place.overwritten = True
            copy(source, target, plan)
        if not fresh:
            _fill_sector(target, source.size)
        target.flush()


def _fill_sector(target: Node, size: int) -> None:
    """Store zeros in the rest of the last sector of ``size`` bytes, as the disk they are from shows them elsewhere."""
    rest = min(align_up(size, SECTOR), target.size) - size
    if rest > 0:
        target.zero(size, rest)


@contextmanager
def _made(request: ConvertRequest, size: int, source: Node | None) -> Iterator[tuple[Node, Target]]:
    """Make the target, or open the one that exists; a new file is removed again unless the body ends well.

    The body says when it begins to overwrite an existing one.
    """
    from blockkit.block.graph import create_image, open_image

    if not request.create:
        with _open_existing(request) as node, Target({"filename": node.filename}) as target:
            target.existed = True
            if source is not None and files_of(node, backing=False) & files_of(source):
                raise UsageError(f"{request.output}: the target is the source, or an image it stands on")
            if request.compress and not isinstance(node, WritesCompressed):
                raise UsageError(f"{request.output}: {node.driver} cannot store compressed data")
            yield node, target
        return
    with Target(request.output) as target, ExitStack() as stack:
        if source is not None:
            target.keep_apart(source, "source")
        tree: dict[str, object] = {"file": parse_name(request.output)}
        if request.backing_file is not None:
            # The caller names this one file. What it names in turn is for the policy to judge.
            backing = stack.enter_context(_open_backing(request, target.path))
            target.keep_apart(backing, "backing file")
            tree["backing"] = backing
        create_image(
            request.output,
            request.output_format,
            size,
            options=dict(request.options),
            backing_file=request.backing_file,
            backing_format=request.backing_format,
            cache=request.target_cache,
        )
        target.overwritten = True
        if "compression_level" in request.options:
            tree["compression_level"] = request.options["compression_level"]
        node = open_image(
            tree, format=request.output_format, read_only=False, cache=request.target_cache, policy=request.policy
        )
        yield stack.enter_context(node), target


def _open_backing(request: ConvertRequest, image: str) -> Node:
    from blockkit.block.graph import backing_tree, open_image

    if request.backing_format is None:
        raise UsageError(f"backing file {request.backing_file!r} is given without its format (-F)")
    tree = backing_tree(request.backing_file or "", request.backing_format, image)
    return open_image(tree, cache=request.target_cache, policy=request.policy)


def _open_existing(request: ConvertRequest) -> Node:
    from blockkit.block.graph import open_image

    tree: str | Mapping[str, object] = request.output
    if request.target_image_opts:
        from blockkit.options import parse_dotted

        tree = parse_dotted(request.output)
    return open_image(
        tree,
        format=None if request.target_image_opts else request.output_format,
        read_only=False,
        cache=request.target_cache,
        policy=request.policy,
    )


def _progress(request: ConvertRequest, total: int) -> Progress:
    """Return what watches the conversion, and holds it up where a rate limit says so."""
    progress = request.progress(total)
    return _Throttle(request.rate_limit, progress) if request.rate_limit else progress


class _Throttle:
    """Slows ``advance`` down to a rate; whole chunks pass, so the rate holds over a second or so."""

    def __init__(self, rate: int, progress: Progress) -> None:
        self._rate, self._progress = rate, progress
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def advance(self, count: int) -> None:
        self._progress.advance(count)
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, value, trace)


# -- streams -------------------------------------------------------------------------------------------


def _to_stream(request: ConvertRequest, source: Node) -> None:
    """Write the disk to standard output, front to back."""
    from blockkit.block.driver import Streams
    from blockkit.block.graph import add_backing
    from blockkit.formats import format_driver
    from blockkit.options import build, nest

    if request.compress:
        raise UsageError(
            "convert: -c cannot go to standard output: where compressed clusters lie is known only at the end"
        )
    fd = sys.stdout.fileno()
    if os.isatty(fd):
        raise UsageError("convert: standard output is a terminal; redirect it to a file or a pipe")
    driver = format_driver(request.output_format)
    if not isinstance(driver, Streams):
        raise UsageError(f"convert: format {driver.name} cannot be written to a pipe")
    wanted = nest(request.options)
    add_backing(driver, wanted, request.backing_file, request.backing_format)
    options = build(driver.CreateOptions, wanted, driver.name)

    def write(data: Buffer) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except BrokenPipeError:
            raise  # no failure of ours: whoever read it has seen enough
        except OSError as error:
            raise from_os_error(error, "standard output") from error

    with _progress(request, source.size) as progress:
        over_backing = request.backing_file is not None
        driver.write_stream(source, options, write, over_backing=over_backing, advance=progress.advance)


def _from_pipe(request: ConvertRequest, result: ConvertResult) -> None:
    """Write what standard input brings; its length is known only at its end."""
    if request.source_format not in (None, "raw"):
        raise UsageError("convert: standard input is read front to back and must be raw (-f raw)")
    if request.output == STANDARD_STREAM:
        raise UsageError("convert: standard input and standard output cannot both be pipes")
    if request.salvage:
        raise UsageError("convert: --salvage cannot read standard input, unless that is a file")
    fd = sys.stdin.fileno()

    def read(buf: memoryview) -> int:
        return os.readv(fd, [buf])

    with _made(request, 0, None) as (target, place):
        place.overwritten = True
        _fill(request, target, read, result, made=request.create)


def _fill(
    request: ConvertRequest,
    target: Node,
    read: Callable[[memoryview], int],
    result: ConvertResult,
    *,
    made: bool,
) -> None:
    """Copy a stream to ``target`` piece by piece; one that was just made becomes as long as it, if that is possible."""
    from blockkit.block.memory import BufferNode

    # Whole compressed clusters at once, however large they are.
    unit = target.compressed_cluster_size if isinstance(target, WritesCompressed) else 1
    buffer = memoryview(bytearray(align_up(_PIECE, unit)))
    grow = made and Cap.RESIZE in target.caps
    fresh = (made and target.zero_when_made) or request.target_is_zero
    plan = CopyPlan(sparse_size=request.sparse_size, target_is_zero=fresh, compressed=request.compress, workers=1)
    done = 0
    with _progress(request, 0) as progress:
        while True:
            filled = 0
            while filled < len(buffer):
                with translating("standard input"):
                    count = read(buffer[filled:])
                if not count:
                    break
                filled += count
            if not filled:
                break
            if done + filled > target.size:
                if not grow:
                    raise UsageError(f"{target}: standard input is longer than the {target.size} bytes of the target")
                target.resize(align_up(max(_FIRST_SIZE, target.size * 2, done + filled), SECTOR))
            copy(BufferNode(buffer[:filled]), target, plan, target_offset=done)
            done += filled
            progress.advance(filled)
        if grow:
            target.resize(align_up(done, SECTOR) if target.driver != "raw" else done)
        elif not fresh:
            _fill_sector(target, done)
        target.flush()
    result.size = target.size
