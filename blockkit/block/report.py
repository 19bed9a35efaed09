"""What a check of an image found; the same shape for every format."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Repair(enum.Enum):
    """What a check may mend."""

    NONE = "none"  #: look only
    LEAKS = "leaks"  #: give back space that nothing refers to
    ALL = "all"  #: mend wrong reference counts and bad entries too


class Severity(enum.Enum):
    """How bad a finding is."""

    LEAK = "leak"  #: space is wasted, no data is at risk
    CORRUPTION = "corruption"  #: data is, or may become, wrong
    ERROR = "error"  #: something could not be checked


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: How bad it is.
        where: The structure, named as in the specification.
        problem: What is wrong, the value, and what was expected.
        offset: Where it lies, bytes of the image file; None where that means nothing.
        repaired: Whether this check mended it.
    """

    severity: Severity
    where: str
    problem: str
    offset: int | None = None
    repaired: bool = False

    def __str__(self) -> str:
        place = self.where + (f" at {self.offset:#x}" if self.offset is not None else "")
        mended = " (repaired)" if self.repaired else ""
        return f"{self.severity.value}: {place}: {self.problem}{mended}"


#: Findings kept for printing; past this they are only counted, so that a hostile image cannot fill memory.
MAX_FINDINGS = 10_000


@dataclass(slots=True)
class CheckReport:
    """The result of a check.

    The counters are in the units qemu-img uses: clusters for leaks and allocation, one for each finding otherwise.
    """

    findings: list[Finding] = field(default_factory=list)
    leaks: int = 0
    leaks_fixed: int = 0
    corruptions: int = 0
    corruptions_fixed: int = 0
    check_errors: int = 0
    total_clusters: int = 0
    allocated_clusters: int = 0
    fragmented_clusters: int = 0
    compressed_clusters: int = 0
    image_end_offset: int = 0

    def add(
        self,
        severity: Severity,
        where: str,
        problem: str,
        *,
        offset: int | None = None,
        repaired: bool = False,
        count: int = 1,
    ) -> None:
        """Record a finding and count it ``count`` times."""
        if severity is Severity.LEAK:
            self.leaks += 0 if repaired else count
            self.leaks_fixed += count if repaired else 0
        elif severity is Severity.CORRUPTION:
            self.corruptions += 0 if repaired else count
            self.corruptions_fixed += count if repaired else 0
        else:
            self.check_errors += count
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(severity, where, problem, offset, repaired))

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong any more."""
        return not (self.leaks or self.corruptions or self.check_errors)
