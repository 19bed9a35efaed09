"""Calling a thread back out of the kernel: at a time, or when another thread asks, without ever missing one.

The signal for it is blocked in the thread, but for the kernel while it runs a processor (KVM_SET_SIGNAL_MASK). So one
that comes before the processor runs keeps it from running, no handler is needed, and it waits until it is consumed.
The time is a POSIX timer whose signal goes to that very thread.
"""

from __future__ import annotations

import signal
import threading
from ctypes import CDLL, Structure, byref, c_int, c_int64, c_long, c_uint8, c_uint64, get_errno, sizeof
from typing import TYPE_CHECKING, Any, ClassVar, Final

from blockkit.cpu.kvm import interface as kvm
from blockkit.cpu.kvm.device import control, failure

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from blockkit.cpu.kvm.interface import Fields

#: One that nothing else uses, and whose default would end the process: so it is never sent to a thread that has it
#: unblocked.
SIGNAL: Final = signal.SIGRTMIN + 5

_SECOND: Final = 1_000_000_000
_CLOCK_MONOTONIC: Final = 1
_TIMER_ABSTIME: Final = 1
#: Numbers of system calls of x86-64: glibc has had the functions in two libraries, and numbers timers in its own way.
_TIMER_CREATE, _TIMER_SETTIME, _TIMER_DELETE = 222, 223, 226
_SIGEV_THREAD_ID: Final = 4


class _Event(Structure):
    """``sigevent``."""

    _fields_: ClassVar[Fields] = [
        ("value", c_uint64),
        *((name, c_int) for name in ("signo", "notify", "thread")),
        ("padding", c_uint8 * 44),
    ]


class _Times(Structure):
    """``itimerspec``: the interval, then the time."""

    _fields_: ClassVar[Fields] = [
        (name, c_int64) for name in ("every_seconds", "every_nanoseconds", "seconds", "nanoseconds")
    ]


assert sizeof(_Event) == 64
assert sizeof(_Times) == 32


class Alarm:
    """Calls one processor's thread back; a context manager, in which that thread runs the processor.

    Args:
        vcpu: The descriptor of the processor.
    """

    def __init__(self, vcpu: int) -> None:
        self._vcpu = vcpu
        self._call: Any = CDLL(None, use_errno=True).syscall
        self._call.restype = c_long
        #: Held while a signal is sent, so that the thread stays where it has it blocked. The thread itself may be
        #: interrupted by a handler that rings: therefore it can be taken again.
        self._lock = threading.RLock()
        self._running: int | None = None
        #: The signal of a ring is on its way: more would only fill the queue, whose length is limited.
        self._rung = False
        self._timer = c_int(-1)
        #: Whose timer it is: not by number, which another thread may get later.
        self._timer_thread: threading.Thread | None = None
        self._blocked: set[int] = set()
        self._known = False

    def __enter__(self) -> Self:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (SIGNAL,))
        try:
            if not self._known or before != self._blocked:
                self._tell_mask(before)
            with self._lock:
                self._running, self._rung = threading.get_ident(), False
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._running = None
        self._set_timer(0)
        self.consume()
        # Not if something above was interrupted by an exception: a signal that is still waiting would end the process.
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def wake_at(self, deadline: int) -> None:
        """Ask to be called back at ``deadline``, by :func:`time.monotonic_ns`; replaces the last one."""
        thread = threading.current_thread()
        if self._timer.value < 0 or self._timer_thread is not thread:
            self._delete()
            event = _Event(signo=SIGNAL, notify=_SIGEV_THREAD_ID, thread=threading.get_native_id())
            if self._call(_TIMER_CREATE, _CLOCK_MONOTONIC, byref(event), byref(self._timer)):
                raise failure("timer_create", get_errno())
            self._timer_thread = thread
        self._set_timer(max(1, deadline))

    def ring(self) -> None:
        """Call the thread back now, if it is inside; from any thread."""
        with self._lock:
            if self._running is not None and not self._rung:
                try:
                    signal.pthread_kill(self._running, SIGNAL)
                except OSError as error:
                    raise failure("pthread_kill", error.errno) from error
                self._rung = True

    def consume(self) -> None:
        """Forget the calls that came. What a ring is for is to be looked at after this."""
        with self._lock:
            self._rung = False
        while signal.sigtimedwait((SIGNAL,), 0) is not None:
            pass

    def close(self) -> None:
        """Give the timer back."""
        self._delete()

    def _set_timer(self, when: int) -> None:
        """Set the timer; 0 stops it."""
        if self._timer.value >= 0:
            times = _Times(seconds=when // _SECOND, nanoseconds=when % _SECOND)
            if self._call(_TIMER_SETTIME, self._timer, _TIMER_ABSTIME, byref(times), None):
                raise failure("timer_settime", get_errno())

    def _delete(self) -> None:
        if self._timer.value >= 0:
            self._call(_TIMER_DELETE, self._timer)
            self._timer.value = -1

    def _tell_mask(self, blocked: set[int]) -> None:
        """Have the kernel block these signals while it runs the processor, but not SIGNAL."""
        mask = sum(1 << number - 1 for number in blocked if number != SIGNAL)
        control(self._vcpu, "KVM_SET_SIGNAL_MASK", kvm.SET_SIGNAL_MASK, kvm.SignalMask(len=8, sigset=mask))
        self._blocked, self._known = blocked, True
