"""What only some format drivers can do is told by their members, not by what they inherit."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from blockkit.block.driver import Compresses, Concurrency, Judges, LimitsConcurrency, Measures, Streams
from blockkit.formats import format_driver

OPTIONAL = {Compresses, Judges, LimitsConcurrency, Measures, Streams}


class Foreign:
    """As a package that knows nothing of these protocols would write it."""

    compresses = False
    concurrency: ClassVar[Concurrency] = Concurrency.THREADS

    def judge(self, size: int, options: Any) -> None: ...


@pytest.mark.parametrize(
    ("driver", "able"),
    [
        (format_driver("qcow2"), OPTIONAL - {LimitsConcurrency}),
        (format_driver("raw"), {Measures, Streams}),
        (Foreign(), {Compresses, Judges, LimitsConcurrency}),
        (object(), set()),
    ],
)
def test_a_driver_can_do_what_it_has_the_members_for(driver: object, able: set[type]) -> None:
    assert {protocol for protocol in OPTIONAL if isinstance(driver, protocol)} == able
