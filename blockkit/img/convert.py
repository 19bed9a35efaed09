"""Converting images: open the sources, make the target, copy, and leave no half-finished file behind."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from blockkit.block.copy import CopyPlan, copy
from blockkit.block.policy import ImplicitPolicy
from blockkit.errors import BlockkitError, UsageError, translating
from blockkit.img.request import STANDARD_STREAM
from blockkit.units import MiB, align_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blockkit.block.node import Buffer, Node
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

    A target made here is removed again if the conversion fails or is interrupted.

    Raises:
        BlockkitError: nothing, or not everything, was converted.
    """
    result = ConvertResult()
    with ExitStack() as stack:
        if request.inputs == (STANDARD_STREAM,):
            source = _standard_input()
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


def _standard_input() -> Node | None:
    """Open standard input as a disk if it is a whole file; None for a pipe."""
    from blockkit.block.graph import open_image

    fd = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0:
        return open_image({"driver": "raw", "file": {"driver": "file", "filename": f"/proc/self/fd/{fd}"}})
    return None


# -- to an image ---------------------------------------------------------------------------------------


def _to_image(request: ConvertRequest, source: Node, result: ConvertResult) -> None:
    made = _create(request, source.size) if request.create else False
    try:
        with _open_target(request) as target:
            if target.size < source.size:
                raise UsageError(
                    f"{request.output}: the target has {target.size} bytes, fewer than the {source.size} of the source"
                )
            over_backing = target.backing is not None and request.backing_file is not None
            fresh = request.create or request.target_is_zero
            workers = request.workers or min(4, max(2, os.cpu_count() or 2))
            with request.progress(source.size) as progress:
                plan = CopyPlan(
                    sparse_size=request.sparse_size,
                    target_is_zero=fresh,
                    over_backing=over_backing,
                    compressed=request.compress,
                    workers=min(workers, 4 if not request.compress else 16),
                    copy_range=request.copy_offload,
                    salvage=request.salvage,
                    advance=_Throttle(request.rate_limit, progress).advance if request.rate_limit else progress.advance,
                    failed=result.failed,
                )
                copy(source, target, plan)
                _clear_tail(target, source.size, fresh=fresh and target.backing is None)
            target.flush()
    except BaseException:
        if made:
            _remove(request.output)
        raise


def _clear_tail(target: Node, start: int, *, fresh: bool) -> None:
    """Zero what an existing, larger target holds behind the end of the source."""
    if start < target.size and not fresh:
        target.zero(start, target.size - start)


def _create(request: ConvertRequest, size: int) -> bool:
    """Make the target; tell whether it did not exist before in any useful sense (a device is kept)."""
    from blockkit.block.graph import create_image

    create_image(
        request.output,
        request.output_format,
        size,
        options=dict(request.options),
        backing_file=request.backing_file,
        backing_format=request.backing_format,
        cache=request.target_cache,
    )
    try:
        return stat.S_ISREG(os.stat(request.output).st_mode)
    except OSError:
        return False


def _open_target(request: ConvertRequest) -> Node:
    from blockkit.block.graph import open_image

    tree: str | Mapping[str, object] = request.output
    if request.target_image_opts:
        from blockkit.options import parse_dotted

        tree = parse_dotted(request.output)
    options: dict[str, object] = {}
    if request.create and "compression_level" in request.options:
        options["compression_level"] = request.options["compression_level"]
    policy = request.policy
    if request.create and request.backing_file is not None:
        # Named on the command line, not by a stranger's image.
        policy = ImplicitPolicy.allow()
    return open_image(
        tree,
        format=None if request.target_image_opts else request.output_format,
        read_only=False,
        cache=request.target_cache,
        policy=policy,
        options=options or None,
    )


def _remove(name: str) -> None:
    try:
        os.unlink(name)
    except OSError:
        pass  # whoever looks will see an unfinished file; the error that led here is what is reported


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


# -- streams -------------------------------------------------------------------------------------------


def _to_stream(request: ConvertRequest, source: Node) -> None:
    """Write the disk to standard output, front to back."""
    if request.compress:
        raise UsageError(
            "convert: -c cannot go to standard output: where compressed clusters lie is known only at the end"
        )
    fd = sys.stdout.fileno()
    if os.isatty(fd):
        raise UsageError("convert: standard output is a terminal; redirect it to a file or a pipe")

    def write(data: Buffer) -> None:
        view = memoryview(data)
        with translating("standard output"):
            while view:
                view = view[os.write(fd, view) :]

    with request.progress(source.size) as progress:
        if request.output_format == "raw":
            from blockkit.img.stream import write_raw

            write_raw(source, write, progress.advance)
        elif request.output_format == "qcow2":
            from dataclasses import replace

            from blockkit.formats.qcow2.create import CreateOptions
            from blockkit.formats.qcow2.stream import write_stream
            from blockkit.options import build, nest

            options = build(CreateOptions, nest(request.options), "qcow2")
            if request.backing_file is not None:
                options = replace(options, backing_file=request.backing_file, backing_fmt=request.backing_format)
            write_stream(
                source, options, write, over_backing=request.backing_file is not None, advance=progress.advance
            )
        else:
            raise UsageError(
                f"convert: {request.output_format} cannot be written to standard output; raw and qcow2 can"
            )


def _from_pipe(request: ConvertRequest, result: ConvertResult) -> None:
    """Write what standard input brings; its length is known only at its end."""
    if request.source_format not in (None, "raw"):
        raise UsageError("convert: standard input is read front to back and must be raw (-f raw)")
    if request.output == STANDARD_STREAM:
        raise UsageError("convert: standard input and standard output cannot both be pipes")
    fd = sys.stdin.fileno()

    def read(buf: memoryview) -> int:
        return os.readv(fd, [buf])

    if not request.create:
        with _open_target(request) as target:
            _fill(request, target, read, result, grow=False)
        return
    _create(request, 0)
    try:
        with _open_target(request) as target:
            _fill(request, target, read, result, grow=True)
    except BaseException:
        _remove(request.output)
        raise


def _fill(
    request: ConvertRequest,
    target: Node,
    read: Callable[[memoryview], int],
    result: ConvertResult,
    *,
    grow: bool,
) -> None:
    """Copy a stream to ``target`` piece by piece."""
    from blockkit.block.memory import BufferNode

    buffer = memoryview(bytearray(_PIECE))
    fresh = grow or request.target_is_zero
    plan = CopyPlan(sparse_size=request.sparse_size, target_is_zero=fresh, compressed=request.compress, workers=1)
    done = 0
    with request.progress(0) as progress:
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
                target.resize(align_up(max(_FIRST_SIZE, target.size * 2, done + filled), 512))
            copy(BufferNode(buffer[:filled]), target, plan, target_offset=done)
            done += filled
            progress.advance(filled)
        if grow:
            target.resize(align_up(done, 512) if target.driver != "raw" else done)
        elif not fresh and done < target.size:
            target.zero(done, target.size - done)
        target.flush()
    result.size = target.size
