"""What ``blockkit img convert`` is asked to do."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Final

from blockkit.errors import OptionError, UsageError
from blockkit.frozen import Frozen
from blockkit.img.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blockkit.block.policy import ImplicitPolicy
    from blockkit.img.progress import Watch

#: Standard input as the only source, standard output as the target.
STANDARD_STREAM: Final = "-"
#: Most workers one conversion may have; qemu-img's limit on coroutines.
MAX_WORKERS: Final = 16
#: Unless asked otherwise, runs of zeros this long become holes, bytes.
DEFAULT_SPARSE_SIZE: Final = 4096
MAX_SPARSE_SIZE: Final = 16 << 20


class ConvertRequest(Frozen):
    """One conversion, every flag as a typed field; what contradicts itself is refused when it is made.

    Attributes:
        inputs: Names of the sources, concatenated in order; ``("-",)`` is raw bytes from standard input.
        output: Name of the target; ``"-"`` is standard output.
        source_format: ``-f``: format of every source; None probes.
        output_format: ``-O``: format of the target.
        options: ``-o``: creation options of the target by name, as text; without backing_file and backing_fmt, which
            are ``backing_file`` and ``backing_format`` below. Of no effect with ``-n``.
        compress: ``-c``: store clusters compressed.
        sparse_size: ``-S``: runs of this many zero bytes are not written; 0 allocates everything.
        create: False with ``-n``: the target exists and keeps its size and options.
        workers: ``-m``: requests in flight, 1 to 16; None lets the engine choose.
        copy_offload: ``-C``: let the host copy ranges by itself (copy_file_range).
        rate_limit: ``-r``: bytes per second; 0 is no limit.
        backing_file: ``-B``: backing file of the target; only what differs from it is written.
        backing_format: ``-F``: format of the backing file.
        target_cache: ``-t``: cache mode of the target.
        source_cache: ``-T``: cache mode of the sources.
        force_share: ``-U``: open sources that others write to.
        salvage: ``--salvage``: unreadable ranges become zeros and a warning; not to standard output.
        target_is_zero: ``--target-is-zero``: with ``-n``, the target already reads as zeros.
        image_opts: ``--image-opts``: the sources are option strings (``driver=qcow2,file.filename=...``).
        target_image_opts: ``--target-image-opts``: the target is one too.
        progress: ``-p``: called once with the total in bytes.
        policy: What implicit files (backing, data file) may be opened; None is the default of ``open_image``.
    """

    inputs: tuple[str, ...]
    output: str
    source_format: str | None = None
    output_format: str = "raw"
    options: Mapping[str, str] = field(default_factory=dict)
    compress: bool = False
    sparse_size: int = DEFAULT_SPARSE_SIZE
    create: bool = True
    workers: int | None = None
    copy_offload: bool = False
    rate_limit: int = 0
    backing_file: str | None = None
    backing_format: str | None = None
    target_cache: str = "unsafe"
    source_cache: str = "writeback"
    force_share: bool = False
    salvage: bool = False
    target_is_zero: bool = False
    image_opts: bool = False
    target_image_opts: bool = False
    progress: Watch = Silent
    policy: ImplicitPolicy | None = None

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("convert: no source is named, expected at least one before the target")
        if STANDARD_STREAM in self.inputs and len(self.inputs) > 1:
            raise UsageError("convert: standard input cannot be joined with other sources")
        if not 0 <= self.sparse_size <= MAX_SPARSE_SIZE or self.sparse_size % 512:
            raise OptionError(
                f"-S: sparse size is {self.sparse_size}, not a multiple of 512 from 0 to {MAX_SPARSE_SIZE}"
            )
        if self.workers is not None and not 1 <= self.workers <= MAX_WORKERS:
            raise OptionError(f"-m: number of workers is {self.workers}, not from 1 to {MAX_WORKERS}")
        if self.rate_limit < 0:
            raise OptionError(f"-r: rate limit is {self.rate_limit}, not 0 or more")
        for wrong, problem in (
            (self.copy_offload and self.compress, "-C and -c exclude each other"),
            (self.copy_offload and self.salvage, "-C and --salvage exclude each other"),
            (self.target_is_zero and self.create, "--target-is-zero needs -n"),
            (self.target_is_zero and self.backing_file is not None, "--target-is-zero and -B exclude each other"),
            (self.target_image_opts and self.create, "--target-image-opts needs -n"),
            (self.backing_file is not None and len(self.inputs) > 1, "-B takes one source, which stands on that file"),
            (not self.create and self.output == STANDARD_STREAM, "standard output cannot be an existing target (-n)"),
            (self.salvage and self.output == STANDARD_STREAM, "--salvage cannot go to standard output"),
        ):
            if wrong:
                raise UsageError(f"convert: {problem}")
