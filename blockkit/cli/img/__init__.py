"""``blockkit img``: one module a command, loaded when it runs."""

from __future__ import annotations

from typing import Final

from blockkit.cli.declare import Lazy

COMMANDS: Final = {
    "info": Lazy("blockkit.cli.img.info:command", "Describe an image and its backing chain."),
    "create": Lazy("blockkit.cli.img.create:command", "Make a new image."),
    "convert": Lazy("blockkit.cli.img.convert:command", "Copy images into a new one of any format."),
    "check": Lazy("blockkit.cli.img.check:command", "Check an image's metadata, and repair it."),
    "map": Lazy("blockkit.cli.img.map:command", "Show where the bytes of a disk are stored."),
    "compare": Lazy("blockkit.cli.img.compare:command", "Tell whether two images hold the same disk."),
    "measure": Lazy("blockkit.cli.img.measure:command", "Tell how large a new image would be."),
    "resize": Lazy("blockkit.cli.img.resize:command", "Change the size of a disk."),
    "dd": Lazy("blockkit.cli.img.dd:command", "Copy blocks of one image into a new one."),
    "bench": Lazy("blockkit.cli.img.bench:command", "Measure reading or writing an image."),
    "inspect": Lazy("blockkit.cli.img.inspect:command", "List every on-disk structure with its fields."),
}
