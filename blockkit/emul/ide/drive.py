"""What every drive on an IDE cable has: the task file, status, and data (ATA/ATAPI-6, chapters 6 and 7)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Status (7.15).
BSY, DRDY, DF, DSC, DRQ, ERR = 0x80, 0x40, 0x20, 0x10, 0x08, 0x01
#: Error (7.9).
UNC, IDNF, ABRT = 0x40, 0x10, 0x04
#: Device: the second drive, and LBA.
DEV, LBA = 0x10, 0x40
#: Device control (7.8).
NIEN, SRST, HOB = 0x02, 0x04, 0x80
#: Registers of the command block.
DATA, ERROR, COUNT, LOW, MIDDLE, HIGH, DEVICE, STATUS = range(8)
FEATURES, COMMAND = ERROR, STATUS
DIAGNOSTIC: Final = 0x90
_PASSED: Final = 0x01
#: What is in the registers that have two values, the older one last.
_PAIRED: Final = (FEATURES, COUNT, LOW, MIDDLE, HIGH)


class Drive(ABC):
    """A drive.

    Attributes:
        line: Called with the level of INTRQ whenever it may have changed; the channel sets it.
        needs_dma: Called when a command waits for the bus master, or does so no more; the channel sets it.
        status: The status register.
        pair: The values of the registers that were written twice: the newer and the older one, by register.
        dma: What is to be transferred by the bus master: see :meth:`dma_transfer`; None if nothing is.
    """

    #: What LBA Mid and High hold after a reset.
    signature: tuple[int, int] = (0, 0)

    def __init__(self) -> None:
        self.line: Callable[[], None] = lambda: None
        self.needs_dma: Callable[[], None] = lambda: None
        #: Counts resets: what was begun before one is nobody's any more.
        self.generation = 0
        self.reset()

    def reset(self) -> None:
        """Become as after a hardware or software reset."""
        self.generation += 1
        self.pair = {register: [0, 0] for register in _PAIRED}
        self.device = 0
        self.error = _PASSED
        self.status = DRDY | DSC
        self.interrupt = False
        self.control = 0
        self.dma: tuple[bool, int] | None = None
        self._buffer = memoryview(bytearray())
        self._at = 0
        self._into_buffer = False
        self._then: Callable[[], None] = lambda: None
        self._set_signature()

    def _set_signature(self) -> None:
        self.pair[COUNT][0] = self.pair[LOW][0] = 1
        self.pair[MIDDLE][0], self.pair[HIGH][0] = self.signature

    # -- registers -----------------------------------------------------------------------------------------

    def read(self, register: int) -> int:
        """Read a register other than data; reading the status ends the interrupt."""
        if register == STATUS:
            self.set_interrupt(False)
            return self.status
        if register == ERROR:
            return self.error
        if register == DEVICE:
            return self.device | 0xA0
        return self.pair[register][1 if self.control & HOB else 0]

    def write(self, register: int, value: int) -> None:
        """Write a register other than data and command."""
        self.control &= ~HOB
        if self.status & (BSY | DRQ) and register != DEVICE:
            return
        if register == DEVICE:
            self.device = value
        else:
            pair = self.pair[register]
            pair[1], pair[0] = pair[0], value

    def set_interrupt(self, level: bool) -> None:
        """Raise or lower INTRQ."""
        self.interrupt = level
        self.line()

    def lba(self, *, extended: bool) -> int:
        """Return the address in the task file: of 48 bits, or of 28."""
        low, middle, high = self.pair[LOW], self.pair[MIDDLE], self.pair[HIGH]
        if extended:
            return high[1] << 40 | middle[1] << 32 | low[1] << 24 | high[0] << 16 | middle[0] << 8 | low[0]
        return (self.device & 15) << 24 | high[0] << 16 | middle[0] << 8 | low[0]

    # -- commands ------------------------------------------------------------------------------------------

    def start(self, command: int) -> None:
        """Begin a command, unless one is running."""
        if self.status & BSY:
            return
        self.set_interrupt(False)
        self._stop_transfer()
        self.error, self.status = 0, DRDY | DSC
        self.execute(command)

    @abstractmethod
    def execute(self, command: int) -> None:
        """Do a command."""

    def finish(self, error: int = 0) -> None:
        """End a command, with the bits of the error register for one that failed."""
        self._stop_transfer()
        self.error = error
        self.status = DRDY | DSC | (ERR if error else 0)
        self.set_interrupt(True)

    def diagnose(self) -> None:
        """EXECUTE DEVICE DIAGNOSTIC."""
        self._stop_transfer()
        self.error, self.status = _PASSED, DRDY | DSC
        self._set_signature()

    def _stop_transfer(self) -> None:
        self._buffer, self._at = self._buffer[:0], 0
        if self.dma is not None:
            self.dma = None
            self.needs_dma()

    # -- data by the processor -----------------------------------------------------------------------------

    def offer(self, data: memoryview, then: Callable[[], None]) -> None:
        """Let the guest read a block; ``then`` is called when it has."""
        self._buffer, self._at, self._into_buffer, self._then = data, 0, False, then
        self.status = DRDY | DSC | DRQ
        self.set_interrupt(True)

    def want(self, data: memoryview, then: Callable[[], None], *, interrupt: bool) -> None:
        """Let the guest write a block; ``then`` is called when it has."""
        self._buffer, self._at, self._into_buffer, self._then = data, 0, True, then
        self.status = DRDY | DSC | DRQ
        if interrupt:
            self.set_interrupt(True)

    def read_data(self, size: int) -> int:
        """Read two or four bytes of a block."""
        at = self._at
        if self._into_buffer or not self.status & DRQ:
            return (1 << 8 * size) - 1
        value = int.from_bytes(self._buffer[at : at + size], "little")
        self._at = at + size
        if self._at >= len(self._buffer):
            self._end_block()
        return value

    def write_data(self, size: int, value: int) -> None:
        """Write two or four bytes of a block."""
        at = self._at
        if not self._into_buffer or not self.status & DRQ:
            return
        part = self._buffer[at : at + size]
        part[:] = value.to_bytes(size, "little")[: len(part)]
        self._at = at + size
        if self._at >= len(self._buffer):
            self._end_block()

    def _end_block(self) -> None:
        self.status = DRDY | DSC | BSY
        then, self._then = self._then, lambda: None
        then()

    # -- data by the bus master ----------------------------------------------------------------------------

    def await_dma(self, to_memory: bool, length: int) -> None:
        """Wait for the bus master to be started; :meth:`dma_transfer` is called then."""
        self.status = DRDY | DSC | DRQ
        self.dma = to_memory, length
        self.needs_dma()

    @abstractmethod
    def dma_transfer(self, buffers: Sequence[memoryview], done: Callable[[bool], None]) -> None:
        """Transfer what :attr:`dma` says, and call ``done`` before the command ends; buffers are long enough."""

    # -- saving --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return the state; a transfer by the processor that has begun is not in it."""
        if self.status & (BSY | DRQ):
            # It ends as after a reset: the driver tries again.
            return {"busy": True}
        return {
            "busy": False,
            "pair": [self.pair[register] for register in _PAIRED],
            "registers": [self.device, self.error, self.status, int(self.interrupt), self.control],
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self.reset()
        if saved["busy"]:
            return
        self.pair = {
            register: [int(each) & 0xFF for each in values]
            for register, values in zip(_PAIRED, saved["pair"], strict=True)
        }
        self.device, self.error, self.status, interrupt, self.control = (
            int(each) & 0xFF for each in saved["registers"]
        )
        self.set_interrupt(bool(interrupt))
