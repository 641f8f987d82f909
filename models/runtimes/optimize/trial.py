"""The self-test that every operator of oneDNN passes before it takes the place of torch's.

Knows nothing of the operators. Whether one is quicker depends on the processor, on the BLAS that
torch came with, and on the number of threads; so it is measured here and now, not looked up.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

ROUNDS = range(8, 64)  # at least and at most; the quickest counts, as other load only slows down
CLEARLY = 0.9  # of the plain module's time: no further rounds
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@torch.inference_mode()
def passes(build: Callable[[], nn.Module], plain: nn.Module, *inputs: Tensor | None) -> bool:
    """Whether what is built works here, gives what the plain module gives, and sooner.

    Errors are relative to the largest output. Takes a few milliseconds.
    """
    try:
        candidate = build()
        ours, right = candidate(*inputs), plain(*inputs)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    error = (ours - right).abs().max() / right.abs().max()
    if not error <= TOLERANCE[right.dtype]:  # nor is NaN
        return False
    return quicker(lambda: seconds(candidate, *inputs), lambda: seconds(plain, *inputs))


def quicker(ours: Callable[[], float], theirs: Callable[[], float]) -> bool:
    """Whether the least of our times is below the least of theirs, taken in turns."""
    least, other = ours(), theirs()
    for done in range(1, ROUNDS.stop):
        if done >= ROUNDS.start and least < CLEARLY * other:
            break
        least, other = min(least, ours()), min(other, theirs())
    return least < other


def seconds(module: nn.Module, *inputs: Tensor | None) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    module(*inputs)
    return time.perf_counter() - began
