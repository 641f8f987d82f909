"""The command line of the pieces."""

import argparse
from collections.abc import Sequence
from typing import NamedTuple


class Options(NamedTuple):
    """The options of a piece: the device, tiny networks and short times, and whether to use MPS."""

    device: str
    quick: bool
    mps: bool = False


def parsed(name: str, arguments: Sequence[str]) -> Options:
    """Parse the command line of the piece with this name."""
    parser = argparse.ArgumentParser(prog=f"bench.gpu_checks.{name}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--mps", action="store_true")
    return Options(**vars(parser.parse_args(arguments)))
