"""Other random cases on demand: BLOCKKIT_SEED is mixed into the seed of everything that is random in these tests."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

SEED = os.environ.get("BLOCKKIT_SEED", "")


class Mixed(random.Random):
    """Random numbers of a seed and SEED."""

    def __init__(self, seed: Any = None) -> None:
        super().__init__(seed if seed is None else f"{SEED}: {seed}")


@pytest.fixture(autouse=bool(SEED))
def other_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "Random", Mixed)
