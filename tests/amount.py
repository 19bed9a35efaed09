"""Which random cases there are, and how many.

Attributes:
    SEED: Mixed into the seed of everything that is random; BLOCKKIT_SEED.
    TIMES: So many times as many cases as in an ordinary run; BLOCKKIT_TIMES.
"""

from __future__ import annotations

import os
from typing import Final

SEED: Final = os.environ.get("BLOCKKIT_SEED", "")
TIMES: Final = int(os.environ.get("BLOCKKIT_TIMES", "1"))
