"""Ranges in use: who may go beside whom, and that everybody gets a turn."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from blockkit.block.ranges import RangeLock

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_shared_holders_go_beside_each_other_and_exclusive_ones_do_not() -> None:
    lock = threading.Lock()
    ranges = RangeLock(lock)
    with lock:
        first, second = ranges.try_shared(0, 10), ranges.try_shared(5, 15)
        assert first
        assert second
        assert not ranges.try_exclusive(9, 12)
        assert ranges.try_exclusive(15, 20)
        assert not ranges.try_shared(19, 21)
        ranges.release(first)
        assert not ranges.try_exclusive(9, 12)
        ranges.release(second)
        assert ranges.try_exclusive(9, 12)


def test_whoever_waits_to_be_alone_keeps_newcomers_out_of_that_range_only() -> None:
    lock = threading.Lock()
    ranges = RangeLock(lock)
    taken = threading.Event()

    def wait() -> None:
        with lock:
            token = ranges.exclusive(5, 10)
            taken.set()
            ranges.release(token)

    with lock:
        held = ranges.try_shared(0, 6)
    waiter = in_thread(wait)
    until(lambda: ranges._waiting == 1)
    with lock:
        assert not ranges.try_shared(9, 12)
        assert not ranges.try_exclusive(9, 12)
        ranges.release(ranges.try_shared(0, 5))
        ranges.release(ranges.try_exclusive(10, 12))
        assert not taken.is_set()
        ranges.release(held)
    assert taken.wait(30)
    waiter.join(30)
    with lock:
        assert ranges.try_exclusive(0, 20)


def test_steady_sharing_does_not_starve_whoever_wants_to_be_alone() -> None:
    lock = threading.Lock()
    ranges = RangeLock(lock)
    handed, done = threading.Event(), threading.Event()

    def share() -> None:
        # There is always a holder: each takes its own before the one before lets go.
        with lock:
            before = ranges.try_shared(0, 1)
        while not done.is_set():
            with lock:
                token = ranges.try_shared(0, 1)
                ranges.release(before)
                while not token:
                    ranges.wait()
                    token = ranges.try_shared(0, 1)
                before = token
            handed.set()
        with lock:
            ranges.release(before)

    def own() -> None:
        assert handed.wait(30)
        with lock:
            ranges.release(ranges.exclusive(0, 4))
        done.set()

    threads = [in_thread(share), in_thread(own)]
    assert done.wait(10), "it never got its turn"
    for thread in threads:
        thread.join(30)


def test_those_who_wait_get_their_turns_in_order() -> None:
    lock = threading.Lock()
    ranges = RangeLock(lock)
    order: list[int] = []

    def work(number: int) -> None:
        with lock:
            token = ranges.exclusive(number, 10)
            order.append(number)
            ranges.release(token)

    with lock:
        held = ranges.try_exclusive(0, 10)
    threads = []
    for number in (3, 0, 5, 1):
        threads.append(in_thread(lambda number=number: work(number)))
        until(lambda: ranges._waiting == len(threads))
    with lock:
        ranges.release(held)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert order == [3, 0, 5, 1]
