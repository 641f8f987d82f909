"""Helpers of all commands: common options, one-line error messages, early exit."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from app.core.process import USAGE_ERROR, flush_output
from app.core.settings import PREFIX, Settings


@contextmanager
def readable_errors() -> Iterator[None]:
    """Exit with a one-line message if the user's input causes an error in this block."""
    try:
        yield
    except (ValueError, OSError) as error:
        stop(one_line(error), USAGE_ERROR)


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    if isinstance(error, ValidationError):
        parts = [
            f"{_setting(e['loc'])}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors(include_url=False)
        ]
        return "; ".join(parts)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):  # its message is empty
        return "there is not enough memory"
    return " ".join(str(error).split()) or type(error).__name__


def _setting(where: Sequence[object]) -> str:
    """The name of a setting as its user writes it: the flag, or the variable of a secret."""
    name = ".".join(map(str, where))
    if name in Settings.flags():
        return f"--{name.replace('_', '-')}"
    return f"{PREFIX}{name.upper()}" if name in Settings.model_fields else name


def printable(text: object) -> str:
    """The text without characters that could control a terminal; names come from files."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def stop(message: str, status: int) -> NoReturn:
    """Print a one-line message, after all log lines, and exit with a status."""
    if not flush_output(f"patchserve: {message}"):
        os._exit(status)  # a normal exit would wait for the output, which nobody reads
    raise typer.Exit(status)


Images = Annotated[
    list[str], typer.Argument(help="Image files, folders of images, or globs", metavar="IMAGE")
]
Source = Annotated[str, typer.Option(help="Checkpoint: `bundled`, a folder or a Hub id")]
Labels = Annotated[
    Path | None,
    typer.Option(help="File of the labels, one a line, for each output of the network"),
]
Arch = Annotated[
    str, typer.Option(help="Architecture of a bare file of weights, as its library names it")
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers")]
Count = Annotated[int, typer.Option(min=1, help="Number of scenes to draw")]


def write(target: Path, content: bytes) -> None:
    """Write a file; exit with a one-line message if that fails."""
    with readable_errors():
        target.write_bytes(content)
