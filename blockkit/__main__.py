"""``python -m blockkit`` is the ``blockkit`` command."""

import sys

from blockkit.cli import main

sys.exit(main())
