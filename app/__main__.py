"""Owns the command line: which commands `patchserve` has.

Knows nothing of what the commands do.
"""

import os
import sys

from app.core.process import leave_when_told

if sys.argv[1:2] == ["serve"]:
    leave_when_told()  # torch takes seconds to be imported

# libgomp reads this when torch is loaded. Its threads would spin long while they wait for each
# other, which on a machine with anything else to do costs a small network many times its time;
# not to spin at all costs it where there is nothing else. This is about 0.1 ms, little of either.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import typer

from app.cli import explain, predict, serve, train

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a mistake is told in a line, not in a frame
)
for command in (
    serve.serve,
    predict.classify,
    predict.segment,
    explain.explain,
    train.train,
    train.scenes,
    train.evaluate,
):
    cli.command()(command)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
