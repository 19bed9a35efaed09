"""``blockkit img check``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from blockkit.cli.declare import FAILED, Choice, declared, option
from blockkit.cli.images import open_named, takes_option
from blockkit.cli.output import echo, print_json
from blockkit.cli.parameters import (
    cache_option,
    format_option,
    image_argument,
    opening,
    output_option,
    quiet_option,
)
from blockkit.cli.terminal import GREEN, RED, YELLOW, paint

if TYPE_CHECKING:
    from blockkit.block.node import Node
    from blockkit.block.report import CheckReport

#: Exit codes, as scripts written for qemu-img know them.
CLEAN: Final = 0
CORRUPT: Final = 2
LEAKS: Final = 3
UNSUPPORTED: Final = 63


@declared(
    "check",
    help="Check the metadata of IMAGE, and repair it with -r.",
    examples=(
        "blockkit img check disk.qcow2",
        "blockkit img check -r leaks disk.qcow2",
        "blockkit img check --output json disk.qcow2",
    ),
    exits={
        CLEAN: "nothing is wrong (any more)",
        FAILED: "the check could not be made, or not to its end",
        CORRUPT: "the image is corrupt",
        LEAKS: "the image is sound, but space is leaked",
        UNSUPPORTED: "images of this format cannot be checked",
        130: "interrupted",
        143: "terminated",
    },
    failure_code=FAILED,
)
@image_argument()
@format_option()
@output_option
@option(
    "-r",
    "--repair",
    type=Choice("leaks", "all"),
    help="Repair leaked clusters, or all that can be repaired without losing data.",
)
@cache_option("-T", "cache", "writeback")
@quiet_option
@opening
def command(
    image: str,
    fmt: str | None,
    output: str,
    repair: str | None,
    cache: str,
    quiet: bool,
    share: bool,
    image_opts: bool,
    policy: str,
) -> int:
    """Check the image and print what was found."""
    from blockkit.block.facets import Checkable
    from blockkit.block.report import Repair
    from blockkit.img.check import as_json, check_image
    from blockkit.img.info import format_of

    def open_image(fmt: str | None, **how: Any) -> Node:
        return open_named(
            image, fmt, image_opts=image_opts, share=share, policy=policy, cache=cache, backing=False, **how
        )

    node = open_image(fmt)
    driver = format_of(node).driver
    if not isinstance(format_of(node), Checkable):
        node.close()
        echo(f"blockkit: {image}: images of format {driver} have nothing to check", err=True)
        return UNSUPPORTED
    if repair is not None:
        node.close()
        # An image that is not fit to be written is fit to be repaired.
        options = {"repairing": "on"} if takes_option(driver, "repairing") else None
        node = open_image(None if image_opts else driver, read_only=False, options=options)
    with node:

        def mended(report: CheckReport) -> None:
            _print_findings(report)
            if output == "human" and not quiet:
                echo(
                    "The following inconsistencies were found and repaired:\n\n"
                    f"    {report.leaks_fixed} leaked clusters\n    {report.corruptions_fixed} corruptions\n\n"
                    "Double checking the fixed image now..."
                )

        report = check_image(node, Repair(repair or "none"), mended)
    _print_findings(report)
    if not quiet:
        if output == "json":
            print_json(as_json(report, image, driver))
        else:
            _print_summary(report)
    if report.check_errors:
        return FAILED
    if report.corruptions:
        return CORRUPT
    if report.leaks:
        return LEAKS
    return CLEAN


def _print_findings(report: CheckReport) -> None:
    """Print each finding to standard error, as qemu-img does."""
    for finding in report.findings:
        echo(paint(str(finding), YELLOW if finding.severity.value == "leak" else RED, sys.stderr), err=True)
    counted = report.leaks + report.leaks_fixed + report.corruptions + report.corruptions_fixed + report.check_errors
    if report.findings and counted > len(report.findings):
        from blockkit.block.report import MAX_FINDINGS

        if len(report.findings) == MAX_FINDINGS:
            echo(f"only the first {MAX_FINDINGS} findings are listed", err=True)


def _print_summary(report: CheckReport) -> None:
    if report.clean:
        echo(paint("No errors were found on the image.", GREEN))
    if report.corruptions:
        echo(
            paint(f"\n{report.corruptions} errors were found on the image.", RED)
            + "\nData may be corrupted, or further writes to the image may corrupt it."
        )
    if report.leaks:
        echo(
            paint(f"\n{report.leaks} leaked clusters were found on the image.", YELLOW)
            + "\nThis means waste of disk space, but no harm to data."
        )
    if report.check_errors:
        echo(f"\n{report.check_errors} internal errors have occurred during the check.")
    if report.total_clusters and report.allocated_clusters:
        echo(
            f"{report.allocated_clusters}/{report.total_clusters} = "
            f"{report.allocated_clusters * 100 / report.total_clusters:.2f}% allocated, "
            f"{report.fragmented_clusters * 100 / report.allocated_clusters:.2f}% fragmented, "
            f"{report.compressed_clusters * 100 / report.allocated_clusters:.2f}% compressed clusters"
        )
    if report.image_end_offset:
        echo(f"Image end offset: {report.image_end_offset}")
