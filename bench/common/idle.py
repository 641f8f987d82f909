"""Repeats a measurement that other processes on the machine have disturbed."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from bench.common.cpu import UsageDelta, usage, usage_between

TIMEOUT_S = 300.0  # how long to wait for a machine without other work
CHECK_S = 0.2  # length of a check of the machine's CPU use
Measured = TypeVar("Measured")


def undisturbed(name: str, measure: Callable[[], tuple[Measured, UsageDelta]]) -> Measured:
    """Measure until other processes have used little CPU time during the measurement.

    Raises:
        RuntimeError: every attempt within the timeout was disturbed.
    """
    ends = time.monotonic() + TIMEOUT_S
    while time.monotonic() < ends:
        if machine_use().disturbed:
            continue
        result, delta = measure()
        if not delta.disturbed:
            return result
        print(
            f"repeated: {name}, other processes used {delta.foreign:.0%} of the machine",
            file=sys.stderr,
            flush=True,
        )
    raise RuntimeError(f"{name}: other processes use the machine")


def once(name: str, measure: Callable[[], tuple[Measured, UsageDelta]]) -> Measured:
    """Measure once, also while other processes use the machine."""
    return measure()[0]


def machine_use() -> UsageDelta:
    """Return the CPU use of the machine while this process sleeps."""
    before = usage({})
    time.sleep(CHECK_S)
    return usage_between(before, usage({}))
