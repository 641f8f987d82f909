"""Runs a model on image files: reading, batches, progress, errors and the exit status."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typer

from app.cli.answering import Answerer, Failure, Reading, Work, WriteError
from app.cli.bulk import Workers
from app.cli.console import one_line, printable, readable_errors, stop
from app.cli.display import Display
from app.cli.processes import ProcessEndedError, StopRequestedError
from app.cli.report import Report
from app.cli.shared_state import SharedSemaphore
from app.core.cores import core_count
from app.core.process import (
    INTERRUPTED,
    RUN_FAILED,
    SIGNAL_BASE,
    USAGE_ERROR,
    catch_stop_signals,
    exit_now,
)
from app.core.settings import Settings
from app.core.types import Task
from app.engine.engine import TorchEngine
from app.engine.interface import DeviceLost, ModelInfo, OutOfMemory
from app.engine.placement import LoadOptions, resolve_device
from app.imaging.cost import decode_cost
from app.main import make_decoder, prepare_decoders

Value = TypeVar("Value")
MakeReport = Callable[[ModelInfo, Display], AbstractContextManager[Report[Value]]]


class Model(NamedTuple):
    """A checkpoint, its task, the device that runs it, and how it is loaded."""

    source: str
    task: Task
    device: str
    load_options: LoadOptions


def run_images(
    files: list[Path], model: Model, work: Work[Value], make_report: MakeReport[Value]
) -> None:
    """Run a model on image files, and report the answers in the order of the files.

    The limits of the decoder are those of the service, from the same environment variables. A file
    that fails is printed on standard error and reported, and the others continue; the exit status
    is then 1. At a stop signal the report ends after a whole answer.

    Args:
        files: the files.
        model: runs on them.
        work: is done with each image.
        make_report: opens the report when the model is loaded.
    """
    with readable_errors():
        settings = Settings.read()
        prepare_decoders(settings)
        device = resolve_device(model.device)
        engine = TorchEngine(
            model.source, task=model.task, device=device, load_options=model.load_options
        )
    display = Display(len(files))
    with (
        ended_early(display),
        catch_stop_signals() as stop_requested,
        display,
        closing(
            Workers[Value | Failure](
                engine,
                on_gpu=device != "cpu",
                cores=settings.cores or core_count(),
                files=files,
                cpu_batch_size=work.cpu_batch_size,
                stop_requested=stop_requested,
            )
        ) as workers,
    ):
        info = load(workers)
        reading = reading_of(settings, workers.count)
        workers.start(Answerer(work, reading, info, workers.run, workers.on_split))
        with make_report(info, display) as report:
            display.ready()
            report_all(files, workers.answers(), report, display)
    if summary := display.summary():
        typer.echo(summary, err=True)
    if display.failed:
        raise typer.Exit(1)


def load(workers: Workers[Any]) -> ModelInfo:
    """Load the model; exit with a one-line message if that fails."""
    try:
        with readable_errors():
            return workers.load()
    except OutOfMemory as error:
        stop(one_line(error), USAGE_ERROR)


def reading_of(settings: Settings, workers: int) -> Reading:
    """How a number of processes or threads read files, by the settings of the service."""
    pixels = settings.max_decoded_pixels
    return Reading(
        make_decoder(settings),
        lambda data: decode_cost(data, settings.max_image_pixels).pixels,
        SharedSemaphore(pixels),
        pixels // workers,
    )


def report_all(
    files: list[Path],
    answers: Iterator[Value | Failure],
    report: Report[Value],
    display: Display,
) -> None:
    """Report the answers of files as they come."""
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, Failure):
            display.advance(printable(f"{file}: {answer.reason}"))
            report.failure(file, answer)
        else:
            display.advance()
            report.answer(file, answer)


@contextmanager
def ended_early(display: Display) -> Iterator[None]:
    """End the command with its exit status after what ends it before the last image.

    After a signal, the process ends at once, while threads of a GPU may still run a batch.
    """
    try:
        yield
    except (StopRequestedError, KeyboardInterrupt):
        how_far = f"after {display.done:,} of {display.total:,} images"
        exit_now(INTERRUPTED, f"patchserve: interrupted {how_far}")
    except BrokenPipeError:  # for example, `head` has read enough
        exit_now(SIGNAL_BASE + signal.SIGPIPE)
    except (WriteError, OSError) as error:
        stop(one_line(error), USAGE_ERROR)
    except (DeviceLost, ProcessEndedError) as error:
        stop(one_line(error), RUN_FAILED)
