"""Owns how a command fails: one readable line and an exit status.

Knows nothing of the commands.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from app.core.process import USAGE_ERROR


@contextmanager
def readable_errors() -> Iterator[None]:
    """End the program with one line where a user's own input is at fault."""
    try:
        yield
    except (ValueError, OSError) as error:
        stop(one_line(error), USAGE_ERROR)


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    if isinstance(error, ValidationError):
        parts = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)
        ]
        return "; ".join(parts)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):  # which says nothing
        return "there is not enough memory"
    return " ".join(str(error).split()) or type(error).__name__


def stop(message: str, status: int) -> NoReturn:
    """Print a line and leave with a status."""
    typer.echo(f"patchserve: {message}", err=True)
    raise typer.Exit(status)


Images = Annotated[list[Path], typer.Argument(help="image files", metavar="IMAGE...")]
Source = Annotated[str, typer.Option(help="`bundled`, a folder or a hub id")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Seed = Annotated[int, typer.Option(help="of everything random")]
Count = Annotated[int, typer.Option(min=1, help="scenes to draw")]
