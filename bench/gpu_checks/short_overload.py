"""Runs bench.overload in seconds, to show that the program works; its figures mean nothing."""

import sys
from collections.abc import Sequence

from bench import overload

ARGUMENTS = ("--networks", "T", "--timeout-s", "1", "--seconds", "4", "--concurrency", "8")


def main(arguments: Sequence[str] = ()) -> None:
    """Run the benchmark with short phases, also while other processes use the machine."""
    vars(overload).update(
        {"CAPACITY_S": 2.0, "WARM_S": 0.5, "BEFORE_S": 3.0, "AFTER_S": 3.0},
        undisturbed=lambda name, measure: measure()[0],
    )
    overload.main([*ARGUMENTS, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
