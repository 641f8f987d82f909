"""The ways to execute an inference form on a device, and their timing.

The module imports nothing of the service except its pipeline, so that it runs on a machine with
torch and without web frameworks.
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

Call = Callable[[], object]  # runs one batch
ROUNDS = 5
OPEN_BATCHES = 2  # batches in flight: one is staged while the other one computes


def eager(form: Form, images: Tensor) -> Call:
    """Return a call that runs the form kernel by kernel."""
    return partial(form, images)


def graphs(form: Form, images: Tensor) -> Call:
    """Return a call that replays the form as a CUDA graph, like the engine.

    Raises:
        RuntimeError: the form cannot be recorded.
    """
    return partial(recorded(form, images), images)


def compiled(form: Form, images: Tensor) -> Call:
    """Return a call through torch.compile, for this batch size only."""
    return partial(compiled_form(form), images)


def compiled_graphs(form: Form, images: Tensor) -> Call:
    """Return a call that replays the compiled network as a CUDA graph."""
    return graphs(compiled_form(form), images)


def compiled_form(form: Form) -> Form:
    """Return the form with its network compiled."""
    return form.changed(cast(nn.Module, torch.compile(form.network, dynamic=False)))


EXECUTIONS: dict[str, Callable[[Form, Tensor], Call]] = {
    "eager": eager,
    "graphs": graphs,
    "torch.compile": compiled,
    "torch.compile, graphs": compiled_graphs,
}


def recorded(form: Form, images: Tensor) -> Graphs:
    """Return the form with a recorded graph for this number of images; without a graph on a CPU."""
    recording = Graphs(lambda batch: (form(batch),), streams_of(images.device).recorder)
    recording.record(images[0], [len(images)])
    if images.is_cuda and not recording.sizes:
        raise RuntimeError("the form cannot be recorded as a graph")
    return recording


def staged(form: Form, images: Sequence[NDArray[np.uint8]], device: str, batches: int) -> Call:
    """Return a call that sends a batch through the pipeline, from host memory to the best labels.

    Each call launches a batch. If `batches` are in flight, it also collects the oldest one.
    """
    example = torch.from_numpy(np.stack(images)).to(device)
    work, pipeline = recorded(form, example), Pipeline(streams_of(example.device))
    in_flight: deque[Call] = deque()

    def best(outputs: tuple[Tensor, ...]) -> list[Tensor]:
        return list(outputs[0].float().softmax(dim=-1).topk(5))

    def step() -> None:
        in_flight.append(pipeline.launch(images, work, best))
        if len(in_flight) == batches:
            in_flight.popleft()()

    return step


def use_attention_of_service(device: str) -> None:
    """Switch cuDNN's attention off on CUDA, as in the service."""
    if device == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)


@torch.inference_mode()
def seconds(call: Call, device: str, round_s: float) -> float:
    """Return the median over rounds of the seconds per call, after a warm-up.

    Each round has as many calls as take about `round_s` seconds.
    """
    for _ in range(3):
        call()
    calls = max(1, round(round_s / timed(call, device, 1)))
    return statistics.median(timed(call, device, calls) for _ in range(ROUNDS))


def timed(call: Call, device: str, calls: int) -> float:
    """Return the seconds per call of some calls, including the wait for the device."""
    synchronize(device)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize(device)
    return (time.perf_counter() - began) / calls


def synchronize(device: str) -> None:
    """Wait for a GPU; on a CPU there is nothing to wait for."""
    if device == "cuda":
        torch.cuda.synchronize()
