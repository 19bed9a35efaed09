"""virtio over PCI, modern and transitional (virtio 1.2, 4.1)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.pci.function import Bar, PciFunction
from blockkit.emul.pci.msix import MsixTable
from blockkit.emul.registers import Register, RegisterBank
from blockkit.emul.virtio.device import DRIVER_OK, FEATURES_OK, VERSION_1
from blockkit.emul.virtio.queue import QueueLayout

if TYPE_CHECKING:
    from blockkit.emul.virtio.device import VirtioDevice

_VENDOR: Final = 0x1AF4
_TRANSITIONAL, _MODERN = 0x1000, 0x1040
_VENDOR_CAPABILITY: Final = 9
#: Types of capabilities (4.1.4).
_COMMON, _NOTIFY, _ISR, _DEVICE, _WINDOW = 1, 2, 3, 4, 5
#: The window of memory: where its parts are, each in a page, and their sizes.
_AT_COMMON, _AT_ISR, _AT_DEVICE, _AT_NOTIFY, _MEMORY_SIZE = 0x0000, 0x1000, 0x2000, 0x3000, 0x4000
_PAGE: Final = 0x1000
_NOTIFY_STEP: Final = 4
_LEGACY_BAR, _MSIX_BAR, _MEMORY_BAR = 0, 1, 4
_LEGACY_SIZE: Final = 128
NO_VECTOR: Final = 0xFFFF
_ISR_QUEUE, _ISR_CONFIG = 1, 2
_LEGACY_PAGE: Final = 4096
_LOW_32: Final = 0xFFFFFFFF


class QueueRegisters:
    """What a driver tells of a queue before it is used.

    Attributes:
        size: Entries.
        vector: Its message.
        enabled: It is in use.
        areas: Addresses of the descriptor, driver and device areas.
    """

    def __init__(self, size: int) -> None:
        self.largest = self.size = size
        self.vector = NO_VECTOR
        self.enabled = False
        self.areas = [0, 0, 0]


class CommonConfig(RegisterBank):
    """The common configuration structure (4.1.4.3)."""

    # fmt: off
    device_feature_select = Register(0x00, width=4)
    device_feature        = Register(0x04, "r", width=4)
    driver_feature_select = Register(0x08, width=4)
    driver_feature        = Register(0x0C, width=4)
    config_msix_vector    = Register(0x10, width=2, reset=NO_VECTOR)
    num_queues            = Register(0x12, "r", width=2)
    device_status         = Register(0x14)
    config_generation     = Register(0x15, "r")
    queue_select          = Register(0x16, width=2)
    queue_size            = Register(0x18, width=2)
    queue_msix_vector     = Register(0x1A, width=2)
    queue_enable          = Register(0x1C, width=2)
    queue_notify_off      = Register(0x1E, "r", width=2)
    queue_desc_low        = Register(0x20, width=4)
    queue_desc_high       = Register(0x24, width=4)
    queue_driver_low      = Register(0x28, width=4)
    queue_driver_high     = Register(0x2C, width=4)
    queue_device_low      = Register(0x30, width=4)
    queue_device_high     = Register(0x34, width=4)
    # fmt: on

    def __init__(self, transport: VirtioPci) -> None:
        self._transport = transport
        self._features = [0, 0]
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._features = [0, 0]

    @property
    def _queue(self) -> QueueRegisters | None:
        return self._transport.registers.get(self.queue_select)

    @device_feature.on_read
    def _device_feature(self) -> int:
        select = self.device_feature_select
        return self._transport.device.offered >> 32 * select & _LOW_32 if select < 2 else 0

    @driver_feature.on_read
    def _driver_feature(self) -> int:
        return self._features[self.driver_feature_select] if self.driver_feature_select < 2 else 0

    @driver_feature.on_write
    def _set_driver_feature(self, value: int) -> None:
        if self.driver_feature_select < 2:
            self._features[self.driver_feature_select] = value

    @config_msix_vector.on_write
    def _set_config_vector(self, value: int) -> None:
        self.config_msix_vector = self._transport.checked_vector(value)

    @num_queues.on_read
    def _num_queues(self) -> int:
        return self._transport.device.queue_count

    @device_status.on_read
    def _status(self) -> int:
        return self._transport.device.status

    @device_status.on_write
    def _set_status(self, value: int) -> None:
        self._transport.set_status(value, self._features[0] | self._features[1] << 32)

    @queue_size.on_read
    def _size(self) -> int:
        return self._queue.size if self._queue else 0

    @queue_size.on_write
    def _set_size(self, value: int) -> None:
        queue = self._queue
        if queue and not queue.enabled and 0 < value <= queue.largest:
            queue.size = value

    @queue_msix_vector.on_read
    def _vector(self) -> int:
        return self._queue.vector if self._queue else NO_VECTOR

    @queue_msix_vector.on_write
    def _set_vector(self, value: int) -> None:
        if self._queue:
            self._queue.vector = self._transport.checked_vector(value)

    @queue_enable.on_read
    def _enabled(self) -> int:
        return int(bool(self._queue and self._queue.enabled))

    @queue_enable.on_write
    def _enable(self, value: int) -> None:
        if value == 1 and self._queue:
            self._transport.enable_queue(self.queue_select)

    @queue_notify_off.on_read
    def _notify_offset(self) -> int:
        return self.queue_select

    def _area(self, index: int, high: bool) -> int:
        return self._queue.areas[index] >> (32 if high else 0) & _LOW_32 if self._queue else 0

    def _set_area(self, index: int, high: bool, value: int) -> None:
        queue = self._queue
        if queue and not queue.enabled:
            kept = queue.areas[index] & (_LOW_32 if high else _LOW_32 << 32)
            queue.areas[index] = kept | value << (32 if high else 0)

    @queue_desc_low.on_read
    def _desc_low(self) -> int:
        return self._area(0, False)

    @queue_desc_high.on_read
    def _desc_high(self) -> int:
        return self._area(0, True)

    @queue_driver_low.on_read
    def _driver_low(self) -> int:
        return self._area(1, False)

    @queue_driver_high.on_read
    def _driver_high(self) -> int:
        return self._area(1, True)

    @queue_device_low.on_read
    def _device_low(self) -> int:
        return self._area(2, False)

    @queue_device_high.on_read
    def _device_high(self) -> int:
        return self._area(2, True)

    @queue_desc_low.on_write
    def _set_desc_low(self, value: int) -> None:
        self._set_area(0, False, value)

    @queue_desc_high.on_write
    def _set_desc_high(self, value: int) -> None:
        self._set_area(0, True, value)

    @queue_driver_low.on_write
    def _set_driver_low(self, value: int) -> None:
        self._set_area(1, False, value)

    @queue_driver_high.on_write
    def _set_driver_high(self, value: int) -> None:
        self._set_area(1, True, value)

    @queue_device_low.on_write
    def _set_device_low(self, value: int) -> None:
        self._set_area(2, False, value)

    @queue_device_high.on_write
    def _set_device_high(self, value: int) -> None:
        self._set_area(2, True, value)

    def save(self) -> dict[str, Any]:
        """Return all registers."""
        return {"values": dict(self.values), "features": self._features}

    def load(self, saved: dict[str, Any]) -> None:
        """Take them back."""
        self.values.update(saved["values"])
        self._features = list(saved["features"])


class LegacyHeader(RegisterBank):
    """The header of the legacy interface (4.1.4.8), the two vectors that come with MSI-X left out."""

    # fmt: off
    device_features = Register(0x00, "r", width=4)
    driver_features = Register(0x04, width=4)
    queue_address   = Register(0x08, width=4)
    queue_size      = Register(0x0C, "r", width=2)
    queue_select    = Register(0x0E, width=2)
    queue_notify    = Register(0x10, width=2)
    device_status   = Register(0x12)
    isr             = Register(0x13, "r")
    # fmt: on

    def __init__(self, transport: VirtioPci) -> None:
        self._transport = transport
        super().__init__()

    @property
    def _queue(self) -> QueueRegisters | None:
        return self._transport.registers.get(self.queue_select)

    @device_features.on_read
    def _device_features(self) -> int:
        return self._transport.device.offered & _LOW_32

    @driver_features.on_write
    def _set_driver_features(self, value: int) -> None:
        self._transport.device.choose(value & self._transport.device.offered & _LOW_32)

    @driver_features.on_read
    def _driver_features(self) -> int:
        return self._transport.device.accepted & _LOW_32

    @queue_address.on_read
    def _address(self) -> int:
        return self._queue.areas[0] // _LEGACY_PAGE if self._queue and self._queue.enabled else 0

    @queue_address.on_write
    def _set_address(self, value: int) -> None:
        queue = self._queue
        if queue is None:
            return
        if value == 0:
            self._transport.disable_queue(self.queue_select)
            return
        start = value * _LEGACY_PAGE
        available = start + 16 * queue.size
        used = available + 6 + 2 * queue.size
        queue.areas = [start, available, used + -used % _LEGACY_PAGE]
        self._transport.enable_queue(self.queue_select)

    @queue_size.on_read
    def _size(self) -> int:
        return self._queue.size if self._queue else 0

    @queue_notify.on_write
    def _notify(self, value: int) -> None:
        self._transport.device.kick(value)

    @device_status.on_read
    def _status(self) -> int:
        return self._transport.device.status

    @device_status.on_write
    def _set_status(self, value: int) -> None:
        self._transport.set_legacy_status(value)

    @isr.on_read
    def _isr(self) -> int:
        return self._transport.read_isr()


class _Legacy:
    """The legacy window: the header, two vectors if MSI-X is enabled, and the device's configuration."""

    _SIZE: Final = 0x14
    _WITH_VECTORS: Final = 0x18

    def __init__(self, transport: VirtioPci) -> None:
        self._transport = transport
        self.header = LegacyHeader(transport)

    def _config_at(self) -> int:
        return self._WITH_VECTORS if self._transport.msix.enabled else self._SIZE

    def read(self, offset: int, size: int) -> int:
        start = self._config_at()
        if offset >= start:
            return self._transport.device.read_config(offset - start, size)
        if offset >= self._SIZE:
            queue = self._transport.registers.get(self.header.queue_select)
            vectors = self._transport.common.config_msix_vector | (queue.vector if queue else NO_VECTOR) << 16
            return vectors >> 8 * (offset - self._SIZE) & (1 << 8 * size) - 1
        return self.header.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        start = self._config_at()
        if offset >= start:
            self._transport.device.write_config(offset - start, size, value)
        elif offset == self._SIZE:
            self._transport.common.config_msix_vector = self._transport.checked_vector(value)
        elif offset == self._SIZE + 2:
            queue = self._transport.registers.get(self.header.queue_select)
            if queue:
                queue.vector = self._transport.checked_vector(value)
        elif offset < self._SIZE:
            self.header.write(offset, size, value)


class _Memory:
    """The window of memory, in which all structures are."""

    def __init__(self, transport: VirtioPci) -> None:
        self._transport = transport

    def read(self, offset: int, size: int) -> int:
        transport, part = self._transport, offset // _PAGE * _PAGE
        if part == _AT_COMMON:
            return transport.common.read(offset, size)
        if part == _AT_ISR:
            return transport.read_isr() if offset == _AT_ISR else 0
        if part == _AT_DEVICE:
            return transport.device.read_config(offset - part, size)
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        transport, part = self._transport, offset // _PAGE * _PAGE
        if part == _AT_NOTIFY:
            transport.device.kick((offset - part) // _NOTIFY_STEP)
        elif part == _AT_COMMON:
            transport.common.write(offset, size, value)
        elif part == _AT_DEVICE:
            transport.device.write_config(offset - part, size, value)


class VirtioPci(PciFunction):
    """A function that carries a virtio device.

    Args:
        device: The device.
        class_code: Its class.
        transitional: Offer the legacy interface too.
    """

    def __init__(self, device: VirtioDevice, class_code: int, *, transitional: bool = True) -> None:
        identity = _TRANSITIONAL + device.device_id - 1 if transitional else _MODERN + device.device_id
        super().__init__(
            vendor=_VENDOR,
            device=identity,
            class_code=class_code,
            revision=0 if transitional else 1,
            subsystem=(_VENDOR, device.device_id if transitional else _MODERN + device.device_id),
            pin=1,
        )
        self.device, self._isr = device, 0
        self.registers: dict[int, QueueRegisters] = {}
        self.common = CommonConfig(self)
        self._legacy = _Legacy(self)
        self._memory = _Memory(self)
        device.notify_driver, device.broken = self._notify_driver, self._config_changed
        if transitional:
            self.add_bar(Bar(_LEGACY_BAR, _LEGACY_SIZE, self._legacy, is_io=True))
        self.add_bar(Bar(_MEMORY_BAR, _MEMORY_SIZE, self._memory, is_64=True))
        self.msix = MsixTable(self, _MSIX_BAR, device.queue_count + 1)
        for kind, at, length in (
            (_COMMON, _AT_COMMON, 0x38),
            (_ISR, _AT_ISR, 1),
            (_DEVICE, _AT_DEVICE, _PAGE),
        ):
            self.add_capability(_VENDOR_CAPABILITY, _structure(kind, _MEMORY_BAR, at, length))
        notify = _structure(_NOTIFY, _MEMORY_BAR, _AT_NOTIFY, _PAGE, _NOTIFY_STEP.to_bytes(4, "little"))
        self.add_capability(_VENDOR_CAPABILITY, notify)
        # BAR, offset and length are the driver's to choose, and the data behind them.
        writable = bytes(2) + b"\xff" + bytes(3) + b"\xff" * 12
        self._window = self.add_capability(
            _VENDOR_CAPABILITY, _structure(_WINDOW, 0, 0, 0, bytes(4)), writable=writable
        )
        self._forget()

    def _forget(self) -> None:
        """Reset the device, and what the driver told of queues."""
        self.device.reset()
        size = self.device.queue_size
        self.registers = {number: QueueRegisters(size) for number in range(self.device.queue_count)}
        self.common.reset()
        self._isr = 0
        self.set_interrupt(False)

    def reset(self) -> None:
        super().reset()
        self._legacy.header.reset()
        self.msix.reset()
        self._forget()

    # -- what the driver does ------------------------------------------------------------------------------

    def checked_vector(self, value: int) -> int:
        """Return a vector, or NO_VECTOR where there is none of that number."""
        return value if value < self.msix.count else NO_VECTOR

    def set_status(self, value: int, features: int) -> None:
        """Take a status written by a driver of the modern interface."""
        device = self.device
        if value == 0:
            self._forget()
            return
        if (
            value & FEATURES_OK
            and not device.status & FEATURES_OK
            and not (features >> VERSION_1 & 1 and device.choose(features))
        ):
            value &= ~FEATURES_OK
        device.status = device.status & 64 | value

    def set_legacy_status(self, value: int) -> None:
        """Take one of the legacy interface, which resets without forgetting which queue is selected."""
        if value == 0:
            self._forget()
        else:
            self.device.status = value

    def enable_queue(self, number: int) -> None:
        """Begin to use a queue."""
        queue = self.registers[number]
        if not queue.enabled:
            queue.enabled = True
            self.device.open_queue(number, QueueLayout(queue.size, *queue.areas))

    def disable_queue(self, number: int) -> None:
        """Use it no more."""
        self.registers[number].enabled = False
        self.device.queues.pop(number, None)

    def read_isr(self) -> int:
        """Return why the interrupt pin was driven, and let go of it."""
        value, self._isr = self._isr, 0
        self.set_interrupt(False)
        return value

    # -- what the device tells -----------------------------------------------------------------------------

    def _notify_driver(self, number: int) -> None:
        if self.msix.enabled:
            self.msix.send(self.registers[number].vector)
        else:
            self._isr |= _ISR_QUEUE
            self.set_interrupt(True)

    def _config_changed(self) -> None:
        if not self.device.status & DRIVER_OK:
            return
        if self.msix.enabled:
            self.msix.send(self.common.config_msix_vector)
        else:
            self._isr |= _ISR_CONFIG
            self.set_interrupt(True)

    # -- configuration space -------------------------------------------------------------------------------

    def read_config(self, offset: int, size: int) -> int:
        window = self._chosen(offset, size)
        if window:
            bar, at, length = window
            value = self.bars[bar].device.read(at, length) if bar in self.bars else 0
            self.config[self._window + 16 : self._window + 16 + length] = (value & (1 << 8 * length) - 1).to_bytes(
                length, "little"
            )
        return super().read_config(offset, size)

    def config_written(self, offset: int, size: int) -> None:
        window = self._chosen(offset, size)
        if window:
            bar, at, length = window
            if bar in self.bars:
                self.bars[bar].device.write(at, length, self.number(self._window + 16, length))
        if offset < self.msix.control_end <= offset + size:
            self.msix.send_pending()

    def _chosen(self, offset: int, size: int) -> tuple[int, int, int] | None:
        """Return BAR, offset and length of an access by way of configuration space, if this is one (4.1.4.9)."""
        if not self._window + 16 <= offset < self._window + 20:
            return None
        bar = self.config[self._window + 4]
        at, length = struct.unpack_from("<II", self.config, self._window + 8)
        if length not in (1, 2, 4) or at % length or bar not in self.bars or at + length > self.bars[bar].size:
            return None
        return bar, at, length

    # -- saving --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return the state of transport and device."""
        queues = [[each.size, each.vector, each.enabled, each.areas] for each in self.registers.values()]
        return super().save() | {
            "msix": self.msix.save(),
            "common": self.common.save(),
            "select": self._legacy.header.queue_select,
            "isr": self._isr,
            "queues": queues,
            "device": self.device.save(),
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from it."""
        self.reset()
        super().load(saved)
        self.msix.load(saved["msix"])
        self.common.load(saved["common"])
        self._legacy.header.queue_select = saved["select"]
        for queue, (size, vector, enabled, areas) in zip(self.registers.values(), saved["queues"], strict=True):
            queue.size, queue.vector, queue.enabled, queue.areas = size, vector, enabled, list(areas)
        self.device.load(saved["device"])
        self._isr = saved["isr"]
        self.set_interrupt(bool(self._isr) and not self.msix.enabled)


def _structure(kind: int, bar: int, offset: int, length: int, more: bytes = b"") -> bytes:
    """Return the body of a capability: where a structure is (4.1.4)."""
    return struct.pack("<BBBBBBII", 16 + len(more), kind, bar, 0, 0, 0, offset, length) + more
