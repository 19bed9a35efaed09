"""Hot blocks as code of their own: which they are, and copying stencils for them.

A block that is hot keeps its records. For each record whose handler has a stencil, the stencil is copied, one behind
the other, and the record's handler becomes that code; so whoever comes to the record comes to the code. What the code
cannot do, it leaves to the handler that the record had, by a jump of its own for each record. Nothing the guest sees
depends on any of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.jit import layout
from blockkit.cpu.jit.patch import HoleError, read_stencils
from blockkit.cpu.jit.stencils import BAIL, EXIT, GO_ON, GO_ON_LINK, GOTO, TAKE, TAKE_LINK, stencil_name

if TYPE_CHECKING:
    from collections.abc import MutableSequence

    from blockkit.cpu.jit.near import NearMemory
    from blockkit.cpu.jit.patch import Code

#: Bytes for code; when they are used up, no more blocks become code until all are forgotten.
ROOM: Final = 32 << 20
#: What a record's code, its way out and its targets take at most.
_RECORD_ROOM: Final = 512
#: Times a block is found at the end of a slice before it becomes code.
_ENOUGH: Final = 2
#: Blocks that become code with one that is hot: those it goes on to, and so on.
_NEIGHBOURS: Final = 12
#: Instructions between two looks, at least while much is to be found, and at most.
_SHORTEST, _LONGEST = 50_000, 2_000_000
_SCALE_BITS: Final = 3
_XMM: Final = state.XMM * 8
_NONE: Final[list[None]] = [None] * 4


def _signed(data: memoryview) -> int:
    return int.from_bytes(data, "little", signed=True)


class _Piece(NamedTuple):
    """What becomes of a record.

    Attributes:
        place: Where it is in the memory of the records.
        code: What is copied.
        quiet: The same where nobody needs the flags it sets; None if ``code`` is no stencil but the way to the handler.
        values: What fills its holes.
    """

    place: int
    code: Code
    quiet: Code | None
    values: dict[str, int]

    @property
    def is_hot(self) -> bool:
        """Whether it is a stencil."""
        return self.quiet is not None


def _pair(stencils: dict[str, Code], number: int, scale: int | None) -> tuple[Code, Code] | None:
    """Return the stencil of a handler, and the one that sets no flags."""
    found = stencils.get(stencil_name(number, scale))
    return None if found is None else (found, stencils.get(stencil_name(number, scale, flags=False), found))


def _without_dead_flags(pieces: list[_Piece]) -> list[_Piece]:
    """Return the pieces of a block so that none sets flags that others set again before anybody can see them."""
    found, needed = [], True
    for piece in reversed(pieces):
        if piece.quiet is None:
            needed = True
        elif needed:
            needed = "k" not in piece.code.traits or "n" in piece.code.traits
        else:
            piece = piece._replace(code=piece.quiet)
            needed = "n" in piece.code.traits
        found.append(piece)
    return found[::-1]


class HotBlocks:
    """Watches where slices end, and copies code.

    Args:
        slots: The state.
        room: The memory of the records, and behind them room for code.
        records: How many bytes of it are for records.
        symbols: Addresses of the handlers by name.
        data: The object file of the stencils.

    Attributes:
        slice: How many instructions the next slice should have.
    """

    def __init__(
        self, slots: MutableSequence[int], room: NearMemory, records: int, symbols: dict[str, int], data: bytes
    ) -> None:
        self._slots = slots
        self._records, self._start = room.view[:records], room.address
        self._memory, self._address = room.view[records:], room.address + records
        self._is_near = room.is_near
        self._symbols, self._data = symbols, data
        #: By the address of the handler and the scale: the stencil, and the one that sets no flags.
        self._stencils: dict[int, list[tuple[Code, Code] | None]] = {}
        self._parts: dict[str, Code] = {}
        self._next = 0
        self._counts: dict[int, int] = {}
        self._offset = 0
        self.slice = _SHORTEST

    def forget(self) -> None:
        """Forget all code: there are no records any more."""
        self._next = 0
        self._counts.clear()
        self.slice = _SHORTEST

    # -- which blocks are hot ------------------------------------------------------------------------------

    def sample(self) -> None:
        """Look where the slice that has ended began, and remember where the next one does."""
        slots = self._slots
        offset, self._offset = self._offset, slots[16]
        place = layout.JUMPS + ((offset ^ offset >> 12) & layout.JUMP_ENTRIES - 1) * 2
        if slots[place] != offset & (1 << 48) - 1 | slots[layout.JUMP_KEY] << 48:
            return
        record = slots[place + 1]
        count = self._counts.get(record, 0) + 1
        self._counts[record] = count
        if count > _ENOUGH:
            self.slice = min(self.slice * 2, _LONGEST)
            return
        self.slice = max(self.slice // 2, _SHORTEST)
        if count == _ENOUGH:
            self._promote(record)

    def _promote(self, record: int) -> None:
        """Copy code for a block and its neighbours."""
        if not self._stencils and not self._prepare():
            return
        waiting, done = [record], 0
        while waiting and done < _NEIGHBOURS:
            first = waiting.pop(0)
            if self._counts.get(first, 0) <= _ENOUGH:
                self._counts[first] = _ENOUGH + 1
                waiting += self._copy(first)
                done += 1

    def _prepare(self) -> bool:
        """Read the stencils; return whether code can be here."""
        if not self._is_near:
            self._give_up()
            return False
        stencils = read_stencils(self._data)
        self._parts = {name: stencils[name] for name in (EXIT, GOTO, TAKE_LINK, GO_ON_LINK)}
        for name, address in self._symbols.items():
            if name.startswith("h") and name[1:].isdigit():
                number = int(name[1:])
                plain = _pair(stencils, number, None)
                scaled = [plain or _pair(stencils, number, scale) for scale in range(4)]
                if scaled[0]:
                    self._stencils[address] = scaled
        self._stencils[self._symbols["h_goto"]] = [(self._parts[GOTO], self._parts[GOTO])] * 4
        return True

    def _give_up(self) -> None:
        """Look no more: code cannot be where it would have to be."""
        self.sample = lambda: None  # type: ignore[method-assign]
        self.slice = _LONGEST

    # -- copying -------------------------------------------------------------------------------------------

    def _copy(self, first: int) -> list[int]:
        """Copy code for the block whose first record is at an address; return the blocks it goes on to."""
        following: list[int] = []
        pieces: list[_Piece] = []
        record = first
        while True:
            place = record - self._start
            handler = int.from_bytes(self._records[place : place + 8], "little")
            last = bool(self._records[place + layout.SIZE] & layout.ENDS)
            values = self._values(record, place, last, following)
            values["PLAIN"] = handler
            scale = self._records[place + layout.SCALE] & _SCALE_BITS
            # Without a stencil its handler does it, and goes on with the next record.
            code, quiet = self._stencils.get(handler, _NONE)[scale] or (self._parts[EXIT], None)
            pieces.append(_Piece(place, code, quiet, values))
            if last:
                break
            record += layout.RECORD_SIZE
        if ROOM - self._next < len(pieces) * _RECORD_ROOM:
            return []
        while (wrong := self._lay_out(_without_dead_flags(pieces), first, record)) is not None:
            if not pieces[wrong].is_hot:
                # It is too far from here to where the records or the handlers are.
                self._give_up()
                return []
            pieces[wrong] = pieces[wrong]._replace(code=self._parts[EXIT], quiet=None)
        return following

    def _lay_out(self, pieces: list[_Piece], first: int, last: int) -> int | None:
        """Copy the pieces of a block, then their ways out; return the piece whose numbers do not fit, if there is one.

        Args:
            pieces: One for each record.
            first: The first record.
            last: The last one.
        """
        memory, address = self._memory, self._address
        starts = []
        at = self._next
        for piece in pieces:
            starts.append(at)
            at += len(piece.code.data)
        number = 0
        try:
            values = pieces[-1].values
            for name, link, field in ((TAKE, TAKE_LINK, layout.TAKEN), (GO_ON, GO_ON_LINK, layout.OTHERWISE)):
                place = last + field - self._start
                target = int.from_bytes(self._records[place : place + 8], "little")
                if target == first and pieces[0].is_hot:
                    # Round and round, as long as the budget lasts.
                    values[name] = address + starts[0]
                    continue
                values[name] = address + at
                at = self._parts[link].put(memory, at, address, values)
            for number, piece in enumerate(pieces):
                if piece.is_hot:
                    piece.values[BAIL] = address + at
                    at = self._parts[EXIT].put(memory, at, address, piece.values)
                piece.code.put(memory, starts[number], address, piece.values)
        except HoleError:
            return number
        self._next = at
        for piece, start in zip(pieces, starts, strict=True):
            if piece.is_hot:
                self._records[piece.place : piece.place + 8] = (address + start).to_bytes(8, "little")
        return None

    def _values(self, record: int, place: int, last: bool, following: list[int]) -> dict[str, int]:
        """Return what fills the holes of a record's stencil."""
        words = self._records
        reg, rm, base, index = words[place + layout.REG : place + layout.REG + 4]
        displacement = _signed(words[place + layout.DISPLACEMENT : place + layout.DISPLACEMENT + 8])
        values = {
            "H_REG": reg,
            "H_RM": rm,
            "H_BASE": base,
            "H_INDEX": index,
            "H_XMM_REG": _XMM + reg * 2,
            "H_XMM_RM": _XMM + rm * 2,
            "H_DISPLACEMENT": displacement,
            "H_IMMEDIATE": _signed(words[place + layout.IMMEDIATE : place + layout.IMMEDIATE + 8]),
            "H_COUNT": words[place + layout.NUMBER] + 1,
            "H_LENGTH": words[place + layout.SIZE] & ~layout.ENDS,
            "H_RECORD": record,
            "H_TAKEN": record + layout.TAKEN,
            "H_OTHERWISE": record + layout.OTHERWISE,
            "H_NEXT": 0,
            "go_offset": self._symbols["go_offset"],
        }
        if last:
            cell = place + layout.CELL_OTHERWISE + layout.CELL_OFFSET
            values["H_NEXT"] = int.from_bytes(words[cell : cell + 8], "little")
            if int.from_bytes(words[place : place + 8], "little") == self._symbols["h_goto"]:
                values["H_COUNT"] = words[place + layout.NUMBER]
            for field, own in ((layout.TAKEN, layout.CELL_TAKEN), (layout.OTHERWISE, layout.CELL_OTHERWISE)):
                target = int.from_bytes(words[place + field : place + field + 8], "little")
                if target != record + own and self._start <= target < self._start + len(words):
                    following.append(target)
        return values
