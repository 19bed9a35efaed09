from __future__ import annotations

import os
import threading

from blockkit.block.graph import create_image, open_image
from blockkit.block.node import Kind
from blockkit.block.resolve import resolved


def test_runs_of_a_chain_are_where_a_descriptor_can_read_them(tmp_path):
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    create_image(base, "qcow2", 1 << 20)
    with open_image(base, read_only=False) as node:
        node.write(0, b"b" * 200_000)
    create_image(top, "qcow2", options={}, backing_file="base.qcow2", backing_format="qcow2")
    with open_image(top, read_only=False) as node:
        node.write(65536, b"t" * 65536)
        node.flush()
        with resolved(node, 0, node.size) as runs:
            assert [run.offset for run in runs] == [0, 65536, 131072, 196608 + 65536]
            assert sum(run.length for run in runs) == node.size
            assert [run.depth for run in runs] == [1, 0, 1, 1]
            for run in runs[:3]:
                assert run.kind is Kind.DATA
                data = os.pread(run.node.fileno(), run.length, run.target).ljust(run.length, b"\0")
                assert data == node.read(run.offset, run.length)


def test_a_pinned_range_is_not_freed_before_it_is_let_go(tmp_path):
    image = tmp_path / "a.qcow2"
    create_image(image, "qcow2", 1 << 20)
    with open_image(image, read_only=False) as node:
        node.write(0, b"x" * 65536)
        with resolved(node, 4096, 512) as runs:
            done = threading.Event()

            def discard() -> None:
                node.discard(0, 65536)
                node.flush()
                done.set()

            thread = threading.Thread(target=discard)
            thread.start()
            assert not done.wait(0.2)
            assert os.pread(runs[0].node.fileno(), 512, runs[0].target) == b"x" * 512
        thread.join(10)
        assert done.is_set()
        assert node.read(0, 65536) == bytes(65536)
