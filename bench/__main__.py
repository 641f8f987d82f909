"""Runs benchmarks: `python -m bench [NAME...]`, all of them by default.

`python -m bench.NAME` runs one benchmark with its own flags.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

BENCHMARKS = (  # the modules of this folder with a file for their results
    "agreement",
    "attention",
    "batch_cli",
    "decode",
    "edge",
    "fairness",
    "gpu",
    "label_map",
    "load",
    "models",
    "overload",
    "png",
    "serve",
    "soak",
)


def parsed(arguments: Sequence[str]) -> Sequence[str]:
    """Return the names of the benchmarks to run; exit with a message for anything else."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join(BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=known)
    given = parser.parse_args(arguments)
    # not by `choices`: before Python 3.12, argparse applies them to an empty list of names too
    if unknown := [name for name in given.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; the benchmarks are {known}")
    return [name for name in BENCHMARKS if name in given.names or not given.names]


def main(arguments: Sequence[str]) -> None:
    """Run the benchmarks one after the other."""
    for name in parsed(arguments):
        import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
