"""Measuring asks the driver that will make the image."""

from __future__ import annotations

import pytest

from blockkit.block.filters.trace import TraceNode
from blockkit.block.graph import create_image, open_image
from blockkit.block.sizes import BitmapFacts, ImageSize
from blockkit.errors import OptionError, UnsupportedOperationError
from blockkit.formats import FORMATS, raw
from blockkit.formats.raw import RawCreateOptions, RawOptions
from blockkit.img.measure import as_json, measure
from blockkit.testing.memory import MemoryNode


class Plain:
    """A format of another package that does what it must, and nothing more."""

    name = "plain"
    Options = RawOptions
    CreateOptions = RawCreateOptions
    probe, open, create = raw.DRIVER.probe, raw.DRIVER.open, raw.DRIVER.create


class Measuring(Plain):
    def measure(self, size, options, *, data, bitmaps):
        self.asked = (size, options, None if data is None else list(data), bitmaps)
        return ImageSize(size + 1, size + 2, 3)


class Keeper(MemoryNode):
    def bitmaps(self):
        return [BitmapFacts("one", 65536), BitmapFacts("two", 512)]


@pytest.fixture
def plain(monkeypatch):
    """``plain(driver)`` makes ``driver`` the format ``plain``."""

    def install(driver):
        monkeypatch.setattr(raw, "PLAIN", driver, raising=False)
        monkeypatch.setitem(FORMATS, "plain", "blockkit.formats.raw:PLAIN")
        return driver

    return install


def test_a_format_that_cannot_be_measured_is_refused_by_name(plain):
    plain(Plain())
    with pytest.raises(UnsupportedOperationError, match=r"^images of format plain cannot be measured$"):
        measure("plain", {}, 512)


def test_a_format_of_another_package_is_asked(plain):
    driver = plain(Measuring())
    found = measure("plain", {"preallocation": "full"}, 1000)
    assert driver.asked == (1024, RawCreateOptions(preallocation="full"), None, None)
    assert as_json(found) == {"bitmaps": 3, "required": 1025, "fully-allocated": 1026}
    with MemoryNode(b"x" * 1024) as node:
        measure("plain", {}, node)
    assert driver.asked == (1024, RawCreateOptions(), [(0, 1024)], None)


def test_raw_takes_what_the_disk_has():
    assert as_json(measure("raw", {}, 1000)) == {"required": 1024, "fully-allocated": 1024}


def test_bitmaps_of_any_image_that_keeps_them_are_counted_through_filters():
    with TraceNode(Keeper(bytes(1 << 20)), [].append) as node:
        # A table and a cluster of bits for each, and the directory.
        assert measure("qcow2", {}, node).bitmaps == 5 * 65536
        assert measure("qcow2", {"compat": "0.10"}, node).bitmaps is None
        assert measure("raw", {}, node).bitmaps is None


@pytest.mark.parametrize(("compat", "bitmaps"), [("0.10", None), ("1.1", 0)])
def test_an_image_of_version_2_can_have_no_bitmaps(tmp_path, compat, bitmaps):
    create_image(tmp_path / "a", "qcow2", 1 << 20, options={"compat": compat})
    with open_image(tmp_path / "a") as node:
        assert measure("qcow2", {}, node).bitmaps == bitmaps


def test_options_a_new_image_would_not_take_are_refused():
    with pytest.raises(OptionError, match="cluster_size is 3, not"):
        measure("qcow2", {"cluster_size": "3"}, 512)
