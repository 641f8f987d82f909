"""Owns the rule that a measurement does not count while others use the machine.

Knows nothing of what is measured.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from bench.common.cpu import Share, between, usage

PATIENCE_S = 300.0  # with those who keep the machine busy
GLANCE_S = 0.2
Measured = TypeVar("Measured")


def undisturbed(what: str, measured: Callable[[], tuple[Measured, Share]]) -> Measured:
    """What was measured at a time when others left the machine alone.

    Raises:
        RuntimeError: they never did.
    """
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        if glance().void:
            continue
        found, share = measured()
        if not share.void:
            return found
        print(f"void: {what}, {share.foreign:.0%} in others' hands", file=sys.stderr, flush=True)
    raise RuntimeError(f"{what}: others use the machine")


def glance() -> Share:
    """What the machine does while we do nothing."""
    before = usage({})
    time.sleep(GLANCE_S)
    return between(before, usage({}))
