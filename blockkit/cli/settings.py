"""What holds for a whole run of the command line."""

from __future__ import annotations

from typing import Final

PROGRAM: Final = "blockkit"


class Settings:
    """What holds for the whole run.

    Attributes:
        debug: Let errors end in a traceback.
    """

    __slots__ = ("debug",)

    def __init__(self) -> None:
        self.debug = False
