"""Groups of commands, as click sees them."""

from __future__ import annotations

import click

from blockkit.cli.clicking import LazyGroup
from blockkit.cli.declare import FAILED
from blockkit.cli.img import COMMANDS


@click.group(cls=LazyGroup, table=COMMANDS, failure_code=FAILED, help="Make, convert, examine and check disk images.")
def img() -> None:
    """Run before every image command."""
