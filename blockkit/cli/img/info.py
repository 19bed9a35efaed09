"""``blockkit img info``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from blockkit.cli.declare import AS_QEMU_IMG, declared, option
from blockkit.cli.images import open_named
from blockkit.cli.output import echo, print_json
from blockkit.cli.parameters import format_option, image_argument, opening, output_option
from blockkit.cli.terminal import BOLD, is_terminal, paint, table
from blockkit.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blockkit.block.facts import SnapshotFacts
    from blockkit.block.node import Node
    from blockkit.img.info import ImageInfo


@declared(
    "info",
    help="Describe IMAGE: format, sizes, backing file, snapshots. Files it names are opened for --backing-chain only.",
    examples=(
        "blockkit img info disk.qcow2",
        "blockkit img info --output json --backing-chain overlay.qcow2",
        "blockkit img info --limits disk.qcow2",
    ),
    **AS_QEMU_IMG,
)
@image_argument()
@format_option()
@output_option
@option("--backing-chain", is_flag=True, help="Describe the backing files too.")
@option("--limits", is_flag=True, help="Show what requests suit each node of the stack instead.")
@opening
def command(
    image: str,
    fmt: str | None,
    output: str,
    backing_chain: bool,
    limits: bool,
    share: bool,
    image_opts: bool,
    policy: str,
) -> None:
    """Open the image and print what it says."""
    with open_named(
        image, fmt, image_opts=image_opts, share=share, policy=policy, backing=backing_chain or limits
    ) as node:
        if limits:
            _print_limits(node, output)
            return
        from blockkit.img.info import as_json, describe_chain, describe_image

        name = node.filename if image_opts or image.startswith(("json:", "file:")) else image
        found = list(describe_chain(node, name)) if backing_chain else [describe_image(node, name)]
    if output == "json":
        told = [as_json(info) for info in found]
        print_json(told if backing_chain else told[0])
    else:
        echo("\n\n".join("\n".join(_human(info)) for info in found))


def _human(info: ImageInfo) -> Iterator[str]:
    """Yield the lines qemu-img prints, in its order; labels are aligned on a terminal."""
    facts = info.facts
    size = f"{format_size(info.virtual_size)} ({info.virtual_size} bytes)"
    rows = [("image", info.filename), ("file format", info.format), ("virtual size", size)]
    rows.append(("disk size", "unavailable" if info.actual_size is None else format_size(info.actual_size)))
    if facts.encrypted:
        rows.append(("encrypted", "yes"))
    if facts.cluster_size is not None:
        rows.append(("cluster_size", str(facts.cluster_size)))
    if facts.dirty:
        rows.append(("cleanly shut down", "no"))
    if facts.backing_file is not None and info.full_backing is not None:
        same = facts.backing_file == info.full_backing
        rows.append(("backing file", facts.backing_file + ("" if same else f" (actual path: {info.full_backing})")))
        if facts.backing_format is not None:
            rows.append(("backing file format", facts.backing_format))
    fancy = is_terminal(sys.stdout)
    width = max(len(label) for label, _ in rows) + 2 if fancy else 0
    for label, value in rows:
        yield (paint(f"{label}:".ljust(width), BOLD) if fancy else f"{label}: ") + value
    if facts.snapshots:
        yield paint("Snapshot list:", BOLD)
        yield f"{'ID':<10}{'TAG':<17}{'VM SIZE':>8}{'DATE':>20}{'VM CLOCK':>13}{'ICOUNT':>11}"
        yield from (_snapshot(one) for one in facts.snapshots)
    if info.specific:
        yield paint("Format specific information:", BOLD)
        yield from _nested(info.specific, 1)


def _snapshot(snapshot: SnapshotFacts) -> str:
    import time

    date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.date_sec))
    seconds, nanoseconds = divmod(snapshot.vm_clock_nsec, 1_000_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{nanoseconds // 1_000_000:03}"
    icount = "" if snapshot.icount is None else str(snapshot.icount)
    size = format_size(snapshot.vm_state_size)
    return f"{snapshot.id:<9} {snapshot.name:<16} {size:>8}{date:>20}{clock:>13}{icount:>11}"


def _nested(values: Mapping[str, object] | list[object], level: int) -> Iterator[str]:
    """Yield a tree of values as qemu-img prints it."""
    indent = " " * 4 * level
    named = values.items() if not isinstance(values, list) else ((f"[{i}]", value) for i, value in enumerate(values))
    for key, value in named:
        label = key.replace("-", " ")
        if isinstance(value, dict | list):
            yield f"{indent}{label}:"
            yield from _nested(value, level + 1)
        else:
            text = str(value).lower() if isinstance(value, bool) else value
            yield f"{indent}{label}: {text}"


def _print_limits(node: Node, output: str) -> None:
    from blockkit.img.limits import stack_limits

    found = list(stack_limits(node))
    if output == "json":
        print_json([one.as_json() for one in found])
        return

    def bound(value: int) -> str:
        return format_size(value) if value else "-"

    rows = [
        (
            "  " * one.depth + (f"{one.role}: " if one.role else "") + one.driver,
            bound(one.limits.request_alignment),
            bound(one.limits.memory_alignment),
            bound(one.limits.zero_granularity),
            bound(one.limits.discard_granularity),
            bound(one.limits.max_transfer),
            bound(one.limits.optimal_transfer),
            ",".join(one.abilities) or "-",
            one.filename,
        )
        for one in found
    ]
    header = ("NODE", "REQUEST", "MEMORY", "ZERO", "DISCARD", "MAXIMUM", "OPTIMAL", "CAPABILITIES", "FILE")
    echo("\n".join(table(header, rows, right=range(1, 7))))
