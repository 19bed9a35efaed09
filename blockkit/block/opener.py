"""Building a graph from an option tree, and from the names its images record."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from blockkit.block.driver import Concurrency, LimitsConcurrency
from blockkit.block.facets import GuardsHead, HasHostFile
from blockkit.block.node import Node
from blockkit.block.probing import other_than_raw, probe
from blockkit.errors import BlockkitError, ImageError, OptionError, PolicyError, UnknownDriverError
from blockkit.frozen import Frozen
from blockkit.names import implied_path, parse_name
from blockkit.options import Tree, build, option_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blockkit.block.driver import FilterDriver, FormatDriver, ProtocolDriver
    from blockkit.block.policy import Identity, ImplicitPolicy

#: Images of one backing chain below the top.
MAX_CHAIN: Final = 200

#: After so many images a chain is opened on a stack of its own: drivers open their backing file inside their own
#: ``open``, and the interpreter's stack is bounded.
_CHAIN_PER_STACK: Final = 32

#: Keys of a format's tree that name other nodes, beside ``file``.
_ROLES: Final = ("backing", "data_file")

#: Keys that no driver sees, as they say what to open, and how.
_OF_FORMATS: Final = ("driver", "file", "filename", "read_only", *_ROLES)
_OF_FILTERS: Final = ("driver", "file", "read_only")
_OF_PROTOCOLS: Final = ("driver", "force_share", "read_only")


class OpenSettings(Frozen):
    """What holds for every node of one graph.

    Attributes:
        policy: Decides on files that images name.
        cache: The cache mode of host files whose options do not say.
        share: Leave out the locks that keep others away.
        backing: Open backing files; without, what they hold reads as zeros, and images that name one refuse writes.
    """

    policy: ImplicitPolicy
    cache: str = "writeback"
    share: bool = False
    backing: bool = True


class GraphOpener:
    """Opens the nodes of one layer: what a format driver is given as its :class:`~blockkit.block.driver.Opener`.

    Args:
        settings: Of the whole graph.
        chain: The files of the images above, which must not appear again.
        depth: How many images are above.
        given: Nodes the caller asked for by role, whatever the image records; what is used is taken out.
    """

    def __init__(
        self,
        settings: OpenSettings,
        *,
        chain: frozenset[Identity] = frozenset(),
        depth: int = 0,
        given: Tree | None = None,
    ) -> None:
        self.settings = settings
        self._chain = chain
        self._depth = depth
        self._given = given if given is not None else {}
        self._opened: list[Node] = []

    # -- what a driver calls ---------------------------------------------------------------------------

    def open_backing(self, name: str, format: str | None, *, beside: Node) -> Node | None:  # noqa: A002
        """Open the backing file that an image records; see :class:`~blockkit.block.driver.Opener`."""
        if "backing" in self._given:
            return self._open_given("backing", format, read_only=True)
        if not self.settings.backing:
            return None
        return self._keep(self._open_implied(name, format, beside, "backing file", read_only=True))

    def open_data_file(self, name: str, *, beside: Node) -> Node | None:
        """Open the data file that an image records; see :class:`~blockkit.block.driver.Opener`."""
        if "data_file" in self._given:
            return self._open_given("data_file", "raw", read_only=beside.read_only)
        return self._keep(self._open_implied(name, "raw", beside, "data file", read_only=beside.read_only))

    def _keep(self, node: Node) -> Node:
        self._opened.append(node)
        return node

    def _open_given(self, role: str, format_: str | None, *, read_only: bool) -> Node | None:
        tree = self._given.pop(role)
        if tree is None or tree == "":
            return None
        below = GraphOpener(self.settings, chain=self._chain, depth=self._depth + 1)
        return self._keep(below.open_image(tree, read_only=read_only, assume=format_))

    def _open_implied(self, name: str, format_: str | None, beside: Node, role: str, *, read_only: bool) -> Node:
        """Open a file that an image names, as far as the policy lets it."""
        if self._depth >= MAX_CHAIN:
            raise PolicyError(f"more than {MAX_CHAIN} images stand on each other", where=f"{beside}: {role}")
        policy = self.settings.policy
        if policy.protocols and implied_path(name) is None:
            below = GraphOpener(self.settings, chain=self._chain, depth=self._depth + 1)
            return below.open_image(name, read_only=read_only, assume=format_)
        if host_file(beside) is None:
            raise PolicyError(f"{name!r} is named by an image that is not in a file", where=f"{beside}: {role}")
        policy = policy.rooted(beside.filename)
        with policy.find(name, image=beside.filename, role=role) as found:
            if found.identity in self._chain:
                raise PolicyError(f"{name!r} is open above already: the chain is a loop", where=f"{beside}: {role}")
            below = GraphOpener(
                replace(self.settings, policy=policy), chain=self._chain, depth=self._depth + 1, given=None
            )
            tree = {"driver": "file", "filename": found.path}
            file = below.open_storage(tree, read_only=read_only)
            try:
                if found.identity not in identities(file):
                    raise PolicyError(f"{name!r} was exchanged while it was opened", where=f"{beside}: {role}")
                format_ = below._implied_format(file, format_, beside, role)
            except BaseException:
                abandon(file)
                raise
        return below.open_format_over(file, format_, {})

    def _implied_format(self, file: Node, recorded: str | None, beside: Node, role: str) -> str:
        from blockkit.formats import format_driver
        from blockkit.protocols import PROTOCOLS

        if recorded is None:
            if not self.settings.policy.probing:
                raise PolicyError(
                    "its format is not recorded and is not guessed; name it (backing.driver=FORMAT), or"
                    " --backing-policy allow (policy=ImplicitPolicy.allow()) guesses",
                    where=f"{beside}: {role} {str(file)!r}",
                )
            return probe(file)
        if recorded in PROTOCOLS:
            return "raw"  # what QEMU means where it records a protocol
        try:
            format_driver(recorded)
        except UnknownDriverError as error:
            raise UnknownDriverError(f"{beside}: {role} {str(file)!r}: {error}") from error
        return recorded

    # -- trees -----------------------------------------------------------------------------------------

    def open_image(self, tree: object, *, read_only: bool, assume: str | None = None) -> Node:
        """Open a tree that stands for a disk: storage alone gets a format on top, found by probing.

        Args:
            tree: A tree, a name, or a node that is used as it is.
            read_only: Refuse writes everywhere.
            assume: The format where the tree does not say; None probes.
        """
        if isinstance(tree, Node):
            return tree
        tree = self._as_tree(tree, is_image=True)
        read_only = _pop_flag(tree, "read_only", read_only)
        name = tree.pop("driver", None)
        if name is not None:
            return self._open_driver(name, tree, read_only=read_only, is_image=True)
        storage = _pop_storage(tree, "image")
        file = self.open_storage(storage, read_only=read_only)
        try:
            name, guessed = (assume, False) if assume else (probe(file), True)
        except BaseException:
            abandon(file)
            raise
        return self.open_format_over(file, name, tree, guessed=guessed)

    def open_storage(self, tree: object, *, read_only: bool) -> Node:
        """Open a tree that stands for the place of an image: without a driver it is a host file."""
        if isinstance(tree, Node):
            return tree
        tree = self._as_tree(tree, is_image=False)
        read_only = _pop_flag(tree, "read_only", read_only)
        return self._open_driver(tree.pop("driver", "file"), tree, read_only=read_only, is_image=False)

    def _as_tree(self, tree: object, *, is_image: bool) -> Tree:
        if isinstance(tree, str | os.PathLike):
            named = parse_name(tree)
            is_json = isinstance(tree, str) and tree.startswith("json:")
            return {"file": named} if is_image and not is_json else named
        if not isinstance(tree, dict):
            raise OptionError(f"{tree!r} is neither a name nor a group of options")
        return dict(tree)

    def _open_driver(self, name: object, tree: Tree, *, read_only: bool, is_image: bool) -> Node:
        if not isinstance(name, str):
            raise OptionError(f"driver {name!r} is not text")
        kind, driver = _find(name)
        if kind == "protocol":
            return self._open_protocol(driver, tree, read_only=read_only)
        below = tree.pop("file", None)
        if below is None and kind == "format" and "filename" in tree:
            below = {"driver": "file", "filename": tree.pop("filename")}
        if below is None:
            _refuse_misspelt(tree, ("file", "filename") if kind == "format" else ("file",), name)
            raise OptionError(f"{name}: option 'file' is needed: what the {kind} stands on")
        # A format stands on storage. A filter stands on whatever could stand in its place.
        open_below = self.open_image if is_image and kind == "filter" else self.open_storage
        file = open_below(below, read_only=read_only)
        if kind == "format":
            return self.open_format_over(file, name, tree)
        return self._open_filter(driver, file, tree)

    def _open_protocol(self, driver: ProtocolDriver, tree: Tree, *, read_only: bool) -> Node:
        share = _pop_flag(tree, "force_share", self.settings.share)
        options = build(
            driver.Options, with_cache(driver, tree, self.settings.cache), driver.name, beside=_OF_PROTOCOLS
        )
        return driver.open(options, read_only=read_only, share=share)

    def _open_filter(self, driver: FilterDriver, file: Node, tree: Tree) -> Node:
        try:
            return driver.open(file, build(driver.Options, tree, driver.name, beside=_OF_FILTERS))
        except BaseException:
            abandon(file)
            raise

    def open_format_over(self, file: Node, name: str, tree: Mapping[str, Any], *, guessed: bool = False) -> Node:
        """Open the image of format ``name`` in ``file``, which is closed if that fails.

        Args:
            file: Taken over.
            name: The format.
            tree: Its options, and nodes to use whatever the image records.
            guessed: Whether ``name`` comes from probing.
        """
        if self._depth and self._depth % _CHAIN_PER_STACK == 0:
            return _on_new_stack(lambda: self._open_format(file, name, dict(tree), guessed))
        return self._open_format(file, name, dict(tree), guessed)

    def _open_format(self, file: Node, name: str, tree: Tree, guessed: bool) -> Node:
        from blockkit.formats import format_driver

        given: Tree = {role: tree.pop(role) for role in _ROLES if role in tree}
        opener = GraphOpener(self.settings, chain=self._chain | identities(file), depth=self._depth, given=given)
        try:
            driver: FormatDriver = format_driver(name)
            options = build(driver.Options, tree, driver.name, beside=_OF_FORMATS)
            node = driver.open(file, options, opener)
            opener._check_given(driver.name, file)
            if guessed and name == "raw" and not node.read_only and isinstance(node, GuardsHead):
                node.guard_head(other_than_raw)
            if isinstance(driver, LimitsConcurrency) and driver.concurrency is Concurrency.SERIAL:
                from blockkit.block.filters.serial import SerialNode

                node = SerialNode(node)
        except BaseException as error:
            abandon(*opener._opened, file)
            if isinstance(error, ImageError) and not isinstance(error, PolicyError):
                error.in_image(file.filename)
            raise
        return node

    def _check_given(self, driver: str, file: Node) -> None:
        """Refuse nodes that were asked for and that the driver had no use for."""
        for role in self._given:
            if self._given[role] not in (None, ""):
                raise OptionError(f"{file}: {driver}: option {role!r} is given, but the image records no such file")


def _find(name: str) -> tuple[str, Any]:
    """Return the kind and the driver called ``name``."""
    from blockkit import formats, protocols
    from blockkit.block import filters
    from blockkit.block.registry import find_driver, known_names, suggestion

    name = name.replace("-", "_")
    kinds = (
        ("format", formats.FORMATS, formats.ENTRY_POINTS),
        ("protocol", protocols.PROTOCOLS, protocols.ENTRY_POINTS),
        ("filter", filters.FILTERS, filters.ENTRY_POINTS),
    )
    for kind, table, group in sorted(kinds, key=lambda entry: name not in entry[1]):
        driver = find_driver(table, group, kind, name)
        if driver is not None:
            return kind, driver
    known = {known for _, table, group in kinds for known in known_names(table, group)}
    raise UnknownDriverError(f"there is no driver {name!r}{suggestion(name, known)}")


def with_cache(driver: ProtocolDriver, tree: Tree, cache: str) -> Tree:
    """Return ``tree`` with the cache mode ``cache`` where it names none and ``driver`` has such an option."""
    if "cache" in tree or "cache" not in option_names(driver.Options):
        return tree
    return {**tree, "cache": cache}


def _pop_storage(tree: Tree, where: str) -> object:
    if "file" in tree:
        return tree.pop("file")
    if "filename" in tree:
        return parse_name(tree.pop("filename"))
    _refuse_misspelt(tree, _OF_FORMATS, where)
    raise OptionError(f"{where}: option 'file' or 'driver' is needed")


def _refuse_misspelt(tree: Tree, known: tuple[str, ...], where: str) -> None:
    """Tell of a key that can only be one of ``known``, misspelt; which is why that is missing."""
    from blockkit.block.registry import near_miss

    for key in tree:
        if near := near_miss(key, known):
            raise OptionError(f"{where}: there is no option {key!r}; did you mean {near!r}")


def _pop_flag(tree: Tree, key: str, default: bool) -> bool:
    """Take a yes or no out of ``tree`` that may only add to ``default``."""
    if key not in tree:
        return default
    return build(_Flag, {"value": tree.pop(key)}, key).value or default


class _Flag(Frozen):
    """A switch as text, to be read like one of a driver's options."""

    value: bool


def host_file(node: Node) -> Node | None:
    """Return the host file at the bottom of ``node``, following ``file``; None if there is none."""
    while not isinstance(node, HasHostFile):
        below = node.children.get("file")
        if below is None:
            return None
        node = below
    return node


def identities(node: Node) -> frozenset[Identity]:
    """Return what the host file at the bottom of ``node`` is, if there is one."""
    bottom = host_file(node)
    if not isinstance(bottom, HasHostFile):
        return frozenset()
    status = os.fstat(bottom.fileno())
    return frozenset({(status.st_dev, status.st_ino)})


def abandon(*nodes: Node) -> None:
    """Close nodes because of an error, which is what the caller hears about."""
    for node in nodes:
        try:
            node.close()
        except BlockkitError:
            pass


def _on_new_stack(work: Callable[[], Node]) -> Node:
    """Run ``work`` in a thread of its own and return, or raise, what it does."""
    done: list[Node] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="blockkit-open")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
