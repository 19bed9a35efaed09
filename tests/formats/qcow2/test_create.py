from __future__ import annotations

import pytest

from blockkit.block.graph import create_image
from blockkit.errors import BlockkitError


@pytest.mark.parametrize(
    ("options", "size", "problem"),
    [
        ({"cluster_size": "3"}, 1 << 20, "cluster_size is 3"),
        ({"cluster_size": "4M"}, 1 << 20, "cluster_size is 4194304"),
        ({"refcount_bits": "3"}, 1 << 20, "refcount_bits is 3"),
        ({"compat": "0.10", "refcount_bits": "8"}, 1 << 20, "needs compat=1.1"),
        ({"compat": "0.10", "compression_type": "zstd"}, 1 << 20, "needs compat=1.1"),
        ({"cluster_size": "512"}, 1 << 40, "is more than"),
        ({"extended_l2": "on"}, 1 << 20, "extended_l2 is not supported"),
        ({"data_file": "x"}, 1 << 20, "data_file is not supported"),
    ],
)
def test_options_that_cannot_be_are_refused_before_a_file_is_touched(tmp_path, options, size, problem):
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    with pytest.raises(BlockkitError, match=problem):
        create_image(target, "qcow2", size, options=options)
    assert target.read_bytes() == b"precious"
