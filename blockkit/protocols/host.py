"""How the registry opens and creates host files."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from blockkit.errors import OptionError
from blockkit.protocols.file import FileOptions, HostDevice, create_file, open_path

if TYPE_CHECKING:
    from blockkit.block.node import Node


class FileDriver:
    """The driver named ``file``: a regular file or a block device, whichever the name means."""

    name: ClassVar[str] = "file"
    Options: ClassVar[type[FileOptions]] = FileOptions

    def open(self, options: FileOptions, *, read_only: bool, share: bool) -> Node:
        """Open the file called ``options.filename``."""
        return open_path(
            _filename(self.name, options),
            read_only=read_only,
            cache=options.cache,
            share=share,
            lock=options.locking != "off",
            discard=options.discard,
        )

    def create(self, options: FileOptions) -> Node:
        """Make the file called ``options.filename``, or empty it, and open it for writing."""
        return create_file(
            _filename(self.name, options),
            cache=options.cache,
            lock=options.locking != "off",
            discard=options.discard,
        )


class DeviceDriver(FileDriver):
    """The driver named ``host_device``: a block device and nothing else."""

    name: ClassVar[str] = "host_device"

    def open(self, options: FileOptions, *, read_only: bool, share: bool) -> Node:
        """Open the device called ``options.filename``."""
        return HostDevice.open(
            _filename(self.name, options),
            read_only=read_only,
            cache=options.cache,
            share=share,
            lock=options.locking != "off",
            discard=options.discard,
        )


def _filename(driver: str, options: FileOptions) -> str:
    if not options.filename:
        raise OptionError(f"{driver}: option 'filename' is needed")
    return options.filename


FILE = FileDriver()
DEVICE = DeviceDriver()
