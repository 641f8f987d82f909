"""`patchserve check`: whether a checkpoint can be served, and what was assumed."""

import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.cli.check_report import block, document
from app.cli.console import Arch, Device, Labels, one_line, printable, readable_errors, stop
from app.core.process import USAGE_ERROR
from app.core.types import Task
from app.engine.check import try_checkpoint
from app.engine.interface import DeviceLost, OutOfMemory
from app.engine.placement import load_options, resolve_device
from models.checkpoint import CheckpointError, bundled

BUNDLED: tuple[Task, ...] = ("classify", "segment")
FAILURES = (CheckpointError, OutOfMemory, DeviceLost, MemoryError, RuntimeError, OSError)

Checkpoint = Annotated[
    str,
    typer.Argument(help="A folder, a file of weights, a Hub id or `bundled`", metavar="CHECKPOINT"),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Number format")
]
RuntimeName = Annotated[
    Literal["auto", "torch", "openvino"],
    typer.Option(help="Runtime on a CPU; auto: the faster one, as the service selects it"),
]
InputSize = Annotated[
    int,
    typer.Option(min=0, max=4096, help="Side of the input, in pixels; 0: as the checkpoint says"),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse what leaves something open")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON")]


def check(  # noqa: PLR0913 - each is a flag
    checkpoint: Checkpoint,
    labels: Labels = None,
    arch: Arch = "",
    strict: Strict = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    runtime: RuntimeName = "torch",
    input_size: InputSize = 0,
    json_: Json = False,
) -> None:
    """Say whether a checkpoint can be served, or what is wrong.

    Prints what the checkpoint is, and what was assumed.

    The exit status is 0 if it can be served, and 1 if not.
    """
    with readable_errors():
        resolve_device(device)  # a device that does not exist says nothing about the checkpoint
    sources = [bundled(task) for task in BUNDLED] if checkpoint == "bundled" else [checkpoint]
    options = {
        "device": device,
        "dtype": dtype,
        "runtime": runtime,
        "input_size": input_size,
        "load_options": load_options(labels, arch, strict=strict),
    }
    servable = [report(source, options, as_json=json_) for source in sources]
    if not all(servable):
        raise typer.Exit(1)


def report(source: str | Path, options: dict[str, Any], *, as_json: bool) -> bool:
    """Try a checkpoint and print the verdict; return whether it can be served."""
    start = time.monotonic()
    try:
        trial = try_checkpoint(source, **options)
    except FAILURES as error:  # a CheckpointError is a ValueError, too
        reason = one_line(error)
        verdict = {"checkpoint": str(source), "servable": False, "error": reason}
        lines = [f"{source} cannot be served", f"  {reason}"]
    except ValueError as error:  # what the flags ask for does not exist
        stop(one_line(error), USAGE_ERROR)
    else:
        seconds = time.monotonic() - start
        verdict = {"checkpoint": str(source), "servable": True, **document(trial, seconds)}
        lines = [
            f"{source} can be served",
            *block(str(source), trial, seconds, options["load_options"]),
        ]
    typer.echo(json.dumps(verdict) if as_json else "\n".join(map(printable, lines)))
    return bool(verdict["servable"])
