"""Runs all checks that need a GPU in pieces, and can be interrupted and continued.

    python -m bench.gpu_session [--device cuda|cpu] [--quick] [--out FOLDER] [--only NAME...]
                                [--again]

Each piece is a process of its own and takes less than ten minutes, all of them about an hour. The
result of a piece is written to FOLDER/NAME.json when the piece ends. A piece with a result is not
run again, except with --again. At the end a table shows all results, and a list shows what a GPU
still has to show. `--device cpu --quick` is a rehearsal: tiny networks and short times.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.common.sigterm import exit_on_sigterm
from bench.gpu_pieces import PASSED, Bound, Piece, pieces

FOLDER = Path(__file__).parent / "results" / "gpu_session"
TAIL = 6000  # characters of the output that are kept
STOP_S = 15.0  # time for a piece to end after SIGTERM
FINISHED = (PASSED, "failed", "timed out", "missed its bound")  # other pieces could not run


class Options(NamedTuple):
    """The options of the command line."""

    device: str
    quick: bool
    out: Path
    only: Sequence[str]
    again: bool


class Result(NamedTuple):
    """The result of a piece.

    Attributes:
        status: one of FINISHED, or what the piece needs and this machine lacks.
        seconds: wall-clock time of the process.
        device: cuda or cpu.
        quick: whether networks were tiny and times short.
        misses: the figures that miss a bound.
        figures: the JSON that the piece printed last, or else the rows of its tables.
        tail: the end of the output.
    """

    status: str
    seconds: float
    device: str
    quick: bool
    misses: Sequence[str] = ()
    figures: Any = None
    tail: str = ""


def parsed(arguments: Sequence[str]) -> Options:
    """Parse the command line."""
    names = [piece.name for piece in pieces("cuda", FOLDER, quick=False)]
    parser = argparse.ArgumentParser(
        prog="bench.gpu_session",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, short times")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--again", action="store_true", help="run finished pieces again")
    return Options(**vars(parser.parse_args(arguments)))


def missing(piece: Piece, device: str, *, cuda: bool) -> str:
    """Return what the piece needs and this machine lacks, such as "CUDA"; empty if nothing."""
    if (piece.cuda and device == "cpu") or (device == "cuda" and not cuda and piece.modules):
        return "CUDA"
    modules = [name for name in piece.modules if find_spec(name) is None]
    return ", ".join(modules + [name for name in piece.programs if shutil.which(name) is None])


def run(piece: Piece, options: Options) -> Result:
    """Run a piece in a process of its own, and end it and its children after its timeout."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(  # noqa: S603  # a command of this project
            [sys.executable, *piece.command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(piece.timeout_s)
            status = "failed" if code else PASSED
        except subprocess.TimeoutExpired:
            status = "timed out"
        finally:
            stop(process)
        output.seek(0)
        text = output.read()
    found = figures(text)
    checked = status == PASSED and options.device == "cuda" and not options.quick
    misses = [miss for bound in piece.bounds if checked and (miss := missed(bound, found))]
    status = "missed its bound" if misses else status
    seconds = round(time.monotonic() - began, 1)
    return Result(status, seconds, options.device, options.quick, misses, found, text[-TAIL:])


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all processes of its group: SIGTERM first, then SIGKILL."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def figures(text: str) -> Any:
    """Return the last JSON object that is a line of the text, or else the rows of its tables."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            with suppress(ValueError):
                return json.loads(line)
    return table_rows(text) or None


def table_rows(text: str) -> list[dict[str, str]]:
    """Return the rows of all Markdown tables, with the cells by heading."""
    rows: list[dict[str, str]] = []
    heading: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            heading = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not heading:
            heading = cells
        elif set(cells[0]) != {"-"}:
            rows.append(dict(zip(heading, cells, strict=False)))
    return rows


def missed(bound: Bound, found: Any) -> str:
    """Return a message if the best figure of the rows that a bound names misses it, or is absent.

    The figure is the number at the start of a cell.
    """
    values = []
    for row in found if isinstance(found, list) else []:
        first, *others = row.values()
        cell = row.get(bound.column, "") if bound.column else next(iter(others), "")
        number = re.match(r"[\d.]+", cell)
        if first.startswith(bound.row) and number:
            values.append(float(number[0]))
    if not values:
        return f"{bound.row}: no figure"
    best = min(values) if bound.at_most else max(values)
    fits = best <= bound.limit if bound.at_most else best >= bound.limit
    sign = "<=" if bound.at_most else ">="
    return "" if fits else f"{bound.row}: {best:g}, expected {sign} {bound.limit:g}"


def stored(name: str, options: Options) -> Result | None:
    """Return the stored result of a piece for the same device and the same length, if any."""
    file = options.out / f"{name}.json"
    with suppress(OSError, ValueError, TypeError):
        result = Result(**json.loads(file.read_text()))
        if (result.device, result.quick) == (options.device, options.quick):
            return result
    return None


def store(name: str, result: Result, folder: Path) -> None:
    """Write the result of a piece; an interruption leaves the previous file or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.json.part"
    partial.write_text(json.dumps(result._asdict(), indent=1))
    partial.replace(folder / f"{name}.json")


def still_to_show(piece: Piece, result: Result | None) -> str:
    """Return why a GPU still has to show what this piece shows; empty if a GPU has shown it."""
    if result is None:
        return "did not run"
    if result.status != PASSED:
        return "; ".join([result.status, *result.misses])
    if result.device == "cpu":
        return "ran on a CPU only"
    return "ran with --quick only" if result.quick else ""


def summary(listed: Sequence[Piece], results: Mapping[str, Result | None]) -> list[str]:
    """Return the table of all pieces, and the list of what a GPU still has to show."""
    lines = ["| piece | status | seconds | shows |", "|---|---|---|---|"]
    for piece in listed:
        result = results[piece.name]
        status, seconds = ("not run", 0.0) if result is None else (result.status, result.seconds)
        lines.append(f"| {piece.name} | {status} | {seconds:.1f} | {piece.shows} |")
    lines += ["", "A GPU still has to show:", ""]
    open_ = [(piece, why) for piece in listed if (why := still_to_show(piece, results[piece.name]))]
    return lines + ([f"- {one.name}: {one.shows} ({why})" for one, why in open_] or ["- nothing"])


def run_all(listed: Sequence[Piece], options: Options) -> dict[str, Result | None]:
    """Run the chosen pieces that have no result yet; return the results of all pieces."""
    cuda = options.device == "cuda" and torch.cuda.is_available()
    results = {piece.name: stored(piece.name, options) for piece in listed}
    for piece in listed:
        before = results[piece.name]
        finished = before is not None and before.status in FINISHED and not options.again
        if piece.name not in options.only or finished:
            continue
        print(f"{piece.name} ...", end=" ", flush=True)
        lacks = missing(piece, options.device, cuda=cuda)
        unable = Result(f"needs {lacks}", 0.0, options.device, options.quick)
        result = unable if lacks else run(piece, options)
        store(piece.name, result, options.out)
        results[piece.name] = result
        print(f"{result.status}, {result.seconds:.1f} s", flush=True)
    return results


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Run the pieces; print the table and write it."""
    options = parsed(arguments)
    listed = pieces(options.device, options.out, quick=options.quick)
    text = "\n".join(summary(listed, run_all(listed, options)))
    print(f"\n{text}")
    (options.out / "summary.md").write_text(f"{text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
