#!/usr/bin/env python3
"""Read or overwrite 4 KiB pieces of an image in this process: ``random_io.py read|write IMAGE COUNT STEP``.

The offsets are those of ``qemu-img bench -S STEP``: each STEP bytes after the last, round the end. A large STEP that
has no factor in common with the size visits the image in an order no read-ahead guesses.
"""

from __future__ import annotations

import sys
import time

import blockkit

SIZE = 4096


def main() -> None:
    """Time the loop alone, as ``qemu-img bench`` does."""
    mode, path, count, step = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with blockkit.open_image(path, format="qcow2", read_only=mode == "read") as disk:
        end, offset = disk.size, 0
        data = bytes([0xAA]) * SIZE
        start = time.perf_counter()
        if mode == "read":
            for _ in range(count):
                disk.read(offset, SIZE)
                offset = (offset + step) % end
        else:
            for _ in range(count):
                disk.write(offset, data)
                offset = (offset + step) % end
        print(f"Run completed in {time.perf_counter() - start:.3f} seconds.")


if __name__ == "__main__":
    main()
