"""Owns the command line: which commands `patchserve` has.

Knows nothing of what the commands do.
"""

import os
import sys

from app.commands.signals import leave_when_told

if sys.argv[1:2] == ["serve"]:
    leave_when_told()  # torch takes seconds to be imported

# libgomp reads this when torch is loaded. Its threads would spin long while they wait for each
# other, which on a machine with anything else to do costs a small network many times its time;
# not to spin at all costs it where there is nothing else. This is about 0.1 ms, little of either.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import typer

from app.commands import explaining, predicting, serving, training

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a mistake is told in a line, not in a frame
)
for command in (
    serving.serve,
    predicting.classify,
    predicting.segment,
    explaining.explain,
    training.train,
    training.scenes,
    training.evaluate,
):
    cli.command()(command)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
