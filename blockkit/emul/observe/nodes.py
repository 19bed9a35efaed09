"""Every request to every node of a graph and every system call for it, and how long the host took for each."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blockkit.block.bases import ProtocolNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.node import Node
    from blockkit.block.syscall import SystemCall


class Span(NamedTuple):
    """A request to a node, or a system call, which has ended.

    Attributes:
        start: When it began, in nanoseconds of the host, as ``time.perf_counter_ns`` has them.
        depth: How many nodes are above.
        layer: ``node``; ``host``, where bytes leave the graph; ``call``, a system call.
        name: The node's driver, or the name of the call.
        place: The file.
        action: ``read``, ``write``, ``zero``, ``discard``, ``flush``, or what a system call may be for besides.
        offset: Bytes.
        length: Bytes.
        took: Nanoseconds.
        result: What went wrong, or what a system call did of what was asked; else empty.
        fd: The descriptor of a system call; -1 without.
    """

    start: int
    depth: int
    layer: str
    name: str
    place: str
    action: str
    offset: int
    length: int
    took: int
    result: str
    fd: int = -1


#: Methods by what they do; those below are called by the node above.
_METHODS: Final = {
    "read": "read",
    "read_into": "read",
    "readv": "read",
    "pull": "read",
    "pull_bytes": "read",
    "write": "write",
    "writev": "write",
    "push": "write",
    "push_bytes": "write",
    "zero": "zero",
    "discard": "discard",
    "flush": "flush",
}


class GraphObserver:
    """Tells of each request to each node, in the order they began, when the uppermost has ended; until it is closed.

    Args:
        top: The graph.
        told: Takes them; called in the thread that makes all requests.
    """

    def __init__(self, top: Node, told: Callable[[Span], None]) -> None:
        self._told = told
        self._depth = 0
        self._ended: list[Span] = []
        self._nodes = list(dict.fromkeys(_all_nodes(top)))
        self._leave: list[Callable[[], None]] = []
        for node in self._nodes:
            self._watch(node)
            if isinstance(node, ProtocolNode):
                self._leave.append(node.watch_calls(partial(self._called, str(node.filename))))

    def _watch(self, node: Node) -> None:
        inside = [False]
        layer = "host" if isinstance(node, ProtocolNode) else "node"
        for name, action in _METHODS.items():
            node.__dict__[name] = self._observed(node, getattr(node, name), action, inside, layer)

    def _observed(
        self, node: Node, method: Callable[..., Any], action: str, inside: list[bool], layer: str
    ) -> Callable[..., Any]:
        def observed(*arguments: Any, **options: Any) -> Any:
            # A method of a node that calls another one of the same node is one request.
            if inside[0]:
                return method(*arguments, **options)
            inside[0] = True
            depth, self._depth = self._depth, self._depth + 1
            offset, length = _range(arguments)
            error = ""
            start = time.perf_counter_ns()
            try:
                return method(*arguments, **options)
            except BaseException as problem:
                error = str(problem) or type(problem).__name__
                raise
            finally:
                took = time.perf_counter_ns() - start
                inside[0], self._depth = False, depth
                names = layer, node.driver, str(node.filename)
                self._ended.append(Span(start, depth, *names, action, offset, length, took, error))
                if not depth:
                    self._tell()

        return observed

    def _called(self, filename: str, call: SystemCall) -> None:
        names, where = ("call", call.name, filename), (call.action, call.offset, call.length)
        self._ended.append(Span(call.start, self._depth, *names, *where, call.took, call.result, call.fd))
        if not self._depth:
            self._tell()

    def _tell(self) -> None:
        ended, self._ended = self._ended, []
        for span in sorted(ended, key=lambda span: (span.start, span.depth)):
            self._told(span)

    def close(self) -> None:
        """Look away, unless the nodes are closed already."""
        for leave in self._leave:
            leave()
        for node in self._nodes:
            if not node.closed:
                for name in _METHODS:
                    node.__dict__.pop(name, None)


def _all_nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children.values():
        yield from _all_nodes(child)


def _range(arguments: tuple[Any, ...]) -> tuple[int, int]:
    """Return offset and length of any of the methods' arguments."""
    if not arguments:
        return 0, 0
    data = arguments[1]
    if isinstance(data, int):
        return arguments[0], data
    if isinstance(data, bytes | bytearray | memoryview):
        return arguments[0], len(data)
    return arguments[0], sum(map(len, data))
