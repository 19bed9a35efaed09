"""How many random cases there are: BLOCKKIT_TIMES as many as in an ordinary run."""

from __future__ import annotations

import os
from typing import Final

TIMES: Final = int(os.environ.get("BLOCKKIT_TIMES", "1"))
