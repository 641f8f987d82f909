"""The `patchserve` command line: registers the commands and prepares the process for torch."""

import os
import sys

if sys.platform == "win32":
    sys.exit("patchserve: Windows is not supported; use Linux or macOS, a container or WSL")

from app.core.process import exit_on_interrupt, exit_on_signals, open_standard_streams

open_standard_streams()

from app.cli.version import version_line

if sys.argv[1:] == ["--version"]:
    sys.stdout.write(f"{version_line()}\n")
    sys.exit()  # the import of torch takes seconds

if sys.argv[1:2] == ["serve"]:
    exit_on_signals()  # during that import, too

# libgomp reads this when torch is loaded. By default its threads spin for long while they wait for
# each other, which slows a small network down several times if other processes use the cores.
# Without spinning, a small network is slow on an idle machine. 10000 iterations take about 0.1 ms.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from typing import Annotated

import typer

with exit_on_interrupt():
    from app.cli import check, evaluate, explain, predict, serve, train

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # an error message is one line, without a frame
)


def print_version(asked: bool) -> None:
    """Print the versions, if asked."""
    if asked:
        typer.echo(version_line())
        raise typer.Exit


@cli.callback()
def start(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the versions of patchserve, torch and Python",
            callback=print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Serve image classifiers and segmentation models over HTTP, or run them on files."""


for command in (
    serve.serve,
    predict.classify,
    predict.segment,
    explain.explain,
    train.train,
    train.scenes,
    evaluate.evaluate,
    check.check,
):
    cli.command()(command)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
