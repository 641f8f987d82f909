"""Owns the options that several commands have in common.

Knows nothing of what the commands do with them.
"""

from pathlib import Path
from typing import Annotated

import typer

Images = Annotated[list[Path], typer.Argument(help="image files", metavar="IMAGE...")]
Source = Annotated[str, typer.Option(help="`bundled`, a folder or a hub id")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Seed = Annotated[int, typer.Option(help="of everything random")]
Count = Annotated[int, typer.Option(min=1, help="scenes to draw")]
