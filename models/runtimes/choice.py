"""Which of two forms of a network is the quicker one here.

Knows nothing of what they are.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

ROUNDS = 7
Form = Callable[[Tensor], Tensor]


def faster(usual: Form, other: Form, pixels: Tensor) -> Form:
    """The form that takes less time for these pixels; the other must win by a twentieth.

    Both run twice to set themselves up, then in turn. What a batch of one takes is what counts:
    give it one.
    """
    forms = (usual, other)
    taken: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for form in forms * 2:
            form(pixels)
        for _ in range(ROUNDS):
            for form, seconds in zip(forms, taken, strict=True):
                seconds.append(seconds_of(form, pixels))
    first, second = (statistics.median(seconds) for seconds in taken)
    return other if second < 0.95 * first else usual


def seconds_of(form: Form, pixels: Tensor) -> float:
    """The seconds of one call."""
    began = time.perf_counter()
    form(pixels)
    return time.perf_counter() - began
