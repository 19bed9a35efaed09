"""Checking and repairing an image's metadata: what ``blockkit img check`` does for qcow2.

The counters mean what they mean to ``qemu-img check``, and are equal to its own for the same image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blockkit.block.report import MAX_FINDINGS, CheckReport, Repair, Severity
from blockkit.errors import ReadOnlyError
from blockkit.formats.qcow2.audit import Audit
from blockkit.formats.qcow2.repair import mark_consistent, mend_counts, mend_flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.header import HeaderCluster


def check_image(
    file: Node,
    header: HeaderCluster,
    repair: Repair,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Compare all metadata with itself; with ``repair`` mend what can be mended.

    Nobody else may write to ``file`` meanwhile, or keep what it read from it after a repair.

    Args:
        file: What holds the image; writable for a repair.
        header: As read from ``file``; a repair keeps it up to date.
        repair: What to mend. Entries that point to wrong places stay: nothing tells what they should be.
        progress: Called now and then with how many L2 tables are done, and how many there are.

    Returns:
        What was found. After a repair: what is left, and what was mended, marked so.

    Raises:
        CorruptImageError: the file is too large to be checked.
        ReadOnlyError: a repair was asked, but ``file`` is read-only.
        NoSpaceError: there is no room for a new refcount structure; the image is as it was.
        NodeIOError: reading or writing failed.
    """
    if repair is Repair.NONE:
        audit = Audit(file, header, progress=progress)
        audit.check_flags()
        return audit.report
    if file.read_only:
        raise ReadOnlyError(f"{file}: open read-only")
    mend_all = repair is Repair.ALL
    audit = Audit(file, header, mending=mend_all, progress=progress)
    before = audit.report
    if audit.failed:
        return before
    if not mend_all and (audit.unsound or audit.uncounted):
        audit.check_flags()
        before.add(
            Severity.ERROR, "qcow2 image", "the counts of clusters in use are lost: leaks cannot be told from data"
        )
        return before
    if mend_counts(audit, repair):
        audit = Audit(file, header, mending=mend_all)
    found = len(audit.report.findings), audit.report.corruptions
    sound = not (audit.report.leaks or audit.report.corruptions or audit.report.check_errors)
    audit.check_flags()
    if audit.report is not before:
        before.findings += audit.report.findings[found[0] :]
        before.corruptions += audit.report.corruptions - found[1]
    if (mend_all or sound) and audit.report.corruptions > found[1]:
        mend_flags(audit)
    # The image as it is now has the last word.
    last = Audit(file, header)
    last.check_flags()
    if not (last.report.corruptions or last.report.check_errors):
        mark_consistent(file, header)
    return _merge(before, last.report)


def _merge(before: CheckReport, after: CheckReport) -> CheckReport:
    """Return the report of a repair: what was there before and is no more was mended."""
    after.leaks_fixed = max(0, before.leaks - after.leaks)
    after.corruptions_fixed = max(0, before.corruptions - after.corruptions)
    left = {(finding.where, finding.problem, finding.offset) for finding in after.findings}
    # With more findings than are kept, nothing tells which are left.
    mended = [
        replace(finding, repaired=True)
        for finding in before.findings
        if len(after.findings) < MAX_FINDINGS and (finding.where, finding.problem, finding.offset) not in left
    ]
    after.findings = (mended + after.findings)[:MAX_FINDINGS]
    return after
