from __future__ import annotations

import threading

import pytest

from blockkit.block.filters.throttle import ThrottleNode, ThrottleOptions
from blockkit.errors import OptionError
from blockkit.testing.memory import MemoryNode


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        with self._lock:
            self.now += seconds


def throttled(**options: int) -> tuple[ThrottleNode, FakeClock]:
    clock = FakeClock()
    return ThrottleNode(MemoryNode(bytes(1 << 20)), ThrottleOptions(**options), clock=clock), clock


def test_bytes_pass_at_their_rate() -> None:
    node, clock = throttled(bytes_per_second=100_000, burst_bytes=1000)
    start = clock.now
    for number in range(100):
        if number % 2:
            node.read(0, 10_000)
        else:
            node.write(0, bytes(10_000))
    assert clock.now - start == pytest.approx((100 * 10_000 - 1000) / 100_000)


def test_requests_pass_at_their_rate() -> None:
    node, clock = throttled(requests_per_second=50, burst_requests=1)
    start = clock.now
    for _ in range(50):
        node.read(0, 1)
        node.zero(0, 4096)
        node.discard(0, 4096)
        node.write(0, b"x")
    assert clock.now - start == pytest.approx((200 - 1) / 50)


def test_the_stricter_rate_counts() -> None:
    node, clock = throttled(requests_per_second=10, burst_requests=1, bytes_per_second=1000, burst_bytes=1)
    start = clock.now
    for _ in range(10):
        node.read(0, 1)
    assert clock.now - start == pytest.approx(0.9)
    node.read(0, 10_000)
    assert clock.now - start > 9


def test_a_pause_saves_up_a_burst_and_no_more() -> None:
    node, clock = throttled(bytes_per_second=1000, burst_bytes=5000)
    node.read(0, 5000)
    assert clock.now == 1000.0
    clock.now += 3600
    node.read(0, 5000)
    assert clock.now == 4600.0
    node.read(0, 1000)
    assert clock.now == pytest.approx(4601.0)


def test_a_request_larger_than_the_bucket_passes_and_pays() -> None:
    node, clock = throttled(bytes_per_second=1000, burst_bytes=10)
    node.read(0, 100_010)
    assert clock.now == pytest.approx(1100.0)


def test_flushing_resizing_and_zero_rates_cost_nothing() -> None:
    node, clock = throttled(requests_per_second=1, burst_requests=1)
    for _ in range(10):
        node.flush()
        node.resize(1 << 20)
    node, clock = throttled()
    for _ in range(10):
        node.read(0, 1 << 20)
    assert clock.now == 1000.0


def test_threads_share_one_rate() -> None:
    clock = FakeClock()
    waits: list[float] = []
    clock.sleep = waits.append  # type: ignore[method-assign]
    options = ThrottleOptions(bytes_per_second=1000, burst_bytes=1)
    node = ThrottleNode(MemoryNode(bytes(1000)), options, clock=clock)
    threads = [threading.Thread(target=node.read, args=(0, 1000)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == pytest.approx([0.999, 1.999, 2.999, 3.999, 4.999])


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(OptionError, match="burst_bytes -1 is negative"):
        ThrottleOptions(burst_bytes=-1)
