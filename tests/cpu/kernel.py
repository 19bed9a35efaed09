"""Whether the kernel's virtual machines can be used here, for tests that need them."""

from __future__ import annotations

import os

import pytest

from blockkit.cpu.kvm import device
from blockkit.errors import EmulationError


def why_not() -> str:
    try:
        os.close(device.open_device())
    except EmulationError as error:
        return str(error)
    return ""


needs_kvm = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
