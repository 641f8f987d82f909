"""Owns the ways to run an inference form on a device, and the clock that they are held against.

Knows nothing of tables. It imports nothing of the service but its pipeline, so that it runs on a
machine that has torch and no web framework.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.engine.pipeline import Graphs, Pipeline, streams_of
from models.runtimes.optimize.form import Form

Call = Callable[[], object]  # one batch
ROUNDS = 5
OPEN = 2  # batches on their way at once: one is staged while the other computes


def eager(form: Form, images: Tensor) -> Call:
    """The form as it is, kernel by kernel."""
    return partial(form, images)


def graphs(form: Form, images: Tensor) -> Call:
    """The form recorded as a CUDA graph, as the engine does. RuntimeError where it cannot be."""
    return partial(recorded(form, images), images)


def compiled(form: Form, images: Tensor) -> Call:
    """The network through torch.compile, for this batch size alone; bytes become floats before."""
    return partial(compiled_form(form), images)


def compiled_graphs(form: Form, images: Tensor) -> Call:
    """What torch.compile makes of the network, recorded as a CUDA graph."""
    return graphs(compiled_form(form), images)


def compiled_form(form: Form) -> Form:
    """The form around its network compiled."""
    return form.changed(cast(nn.Module, torch.compile(form.network, dynamic=False)))


WAYS: dict[str, Callable[[Form, Tensor], Call]] = {
    "eager": eager,
    "graphs": graphs,
    "torch.compile": compiled,
    "torch.compile, graphs": compiled_graphs,
}


def recorded(form: Form, images: Tensor) -> Graphs:
    """The form with a recording for that many images; on a CPU without."""
    found = Graphs(lambda batch: (form(batch),), streams_of(images.device).recorder)
    found.record(images[0], [len(images)])
    if images.is_cuda and not found.sizes:
        raise RuntimeError("it cannot be recorded")
    return found


def staged(form: Form, images: Sequence[NDArray[np.uint8]], device: str, at_once: int) -> Call:
    """A batch from the host's memory to the best five labels there, so many on their way at once.

    It begins a batch and, when there are so many, collects the oldest.
    """
    example = torch.from_numpy(np.stack(images)).to(device)
    work, pipeline = recorded(form, example), Pipeline(streams_of(example.device))
    open_: deque[Call] = deque()

    def best(said: tuple[Tensor, ...]) -> list[Tensor]:
        return list(said[0].float().softmax(dim=-1).topk(5))

    def step() -> None:
        open_.append(pipeline.launch(images, work, best))
        if len(open_) == at_once:
            open_.popleft()()

    return step


@torch.inference_mode()
def seconds(call: Call, device: str, round_s: float) -> float:
    """The median seconds of a call, over rounds of as many as take `round_s`, after a warm-up."""
    for _ in range(3):
        call()
    calls = max(1, round(round_s / timed(call, device, 1)))
    return statistics.median(timed(call, device, calls) for _ in range(ROUNDS))


def timed(call: Call, device: str, calls: int) -> float:
    """The seconds of each of some calls, until the device is done with all of them."""
    synchronize(device)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize(device)
    return (time.perf_counter() - began) / calls


def synchronize(device: str) -> None:
    """Wait for a GPU; a CPU is done."""
    if device == "cuda":
        torch.cuda.synchronize()
