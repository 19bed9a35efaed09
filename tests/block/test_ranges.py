"""Ranges in use: who may go beside whom, and that everybody gets a turn."""

from __future__ import annotations

import sys
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


def test_announced_ranges_are_shared_and_keep_exclusive_ones_away() -> None:
    lock = threading.Lock()
    ranges = RangeLock(lock)
    first, second = ranges.announce(0, 10), ranges.announce(5, 15)
    assert first
    assert second
    with lock:
        assert not ranges.try_exclusive(9, 12)
        alone = ranges.try_exclusive(15, 20)
        assert alone
    assert not ranges.announce(19, 21)
    assert ranges.announce(20, 21)
    ranges.withdraw(first)
    ranges.withdraw(second)
    with lock:
        ranges.release(alone)
        assert ranges.try_exclusive(0, 20)


def test_who_is_waited_for_is_not_followed_by_another_announcement() -> None:
    lock = threading.Lock()
    ranges = RangeLock(lock)
    token = ranges.announce(0, 10)
    got: list[int] = []

    def want() -> None:
        with lock:
            got.append(ranges.exclusive(5, 6))

    thread = in_thread(want)
    until(lambda: not (other := ranges.announce(5, 6)) or ranges.withdraw(other) is not None)
    assert not got
    ranges.withdraw(token)
    thread.join(30)
    assert got
    assert not ranges.announce(5, 6)


def test_announcing_and_taking_alone_never_meet() -> None:
    """Many turns by threads that switch as often as the interpreter can."""
    lock = threading.Lock()
    ranges = RangeLock(lock)
    inside = {"shared": 0, "alone": 0}
    turns, mistakes = [0, 0], []
    stop = threading.Event()
    interval = sys.getswitchinterval()

    def share() -> None:
        while not stop.is_set():
            if token := ranges.announce(3, 4):
                inside["shared"] += 1
                if inside["alone"]:
                    mistakes.append("shared beside exclusive")
                inside["shared"] -= 1
                turns[0] += 1
                ranges.withdraw(token)

    def alone() -> None:
        while not stop.is_set():
            with lock:
                token = ranges.exclusive(0, 10)
            inside["alone"] += 1
            if inside["alone"] != 1:
                mistakes.append("exclusive beside exclusive")
            time.sleep(0)
            inside["alone"] -= 1
            turns[1] += 1
            with lock:
                ranges.release(token)

    sys.setswitchinterval(1e-6)
    try:
        threads = [in_thread(work) for work in (share, share, alone, alone)]
        until(lambda: min(turns) >= 300 or bool(mistakes))
        stop.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "nobody woke it"
    finally:
        sys.setswitchinterval(interval)
    assert not mistakes
