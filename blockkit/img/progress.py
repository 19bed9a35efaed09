"""What a long operation tells whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


class Progress(Protocol):
    """Counts bytes (or other units) done; a context manager that is left when the operation ends.

    ``advance`` may be called from any thread, and is cheap enough for every request.
    """

    def advance(self, count: int) -> None:
        """Note that ``count`` more units are done."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Silent:
    """Progress that nobody watches.

    Args:
        total: Units there are to do.
    """

    __slots__ = ()

    def __init__(self, total: int) -> None: ...

    def advance(self, count: int) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


#: Makes the progress of one operation from its total, which is known only once the images are open.
Watch: TypeAlias = "Callable[[int], Progress]"
