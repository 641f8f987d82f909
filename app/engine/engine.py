"""Owns a network on a device: it loads it, warms it up, and runs batches of pixels.

Knows nothing of queues, threads or HTTP.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import cast

import numpy as np
import torch
from torch import Tensor

from app.core.types import Task
from app.engine.device_errors import translate_device_errors
from app.engine.interface import (
    BatchResult,
    ClassifyInput,
    EmbedInput,
    EngineInput,
    ExplainInput,
    ModelInfo,
    SegmentInput,
)
from app.engine.outputs import RawOutput, Scores, reader_for
from app.engine.pipeline import Graphs, Pipeline, streams_of
from app.engine.placement import (
    resolve_device,
    resolve_dtype,
    resolve_preprocessing,
    resolve_source,
)
from models import checkpoint
from models.explain import explain
from models.preprocessing import normalize
from models.runtimes.select import Runtime, inference_form
from models.segformer import SegformerClassifier
from models.vit import ViT

Classifier = ViT | SegformerClassifier

REPEATS = 3  # of each batch size at warm-up, at least
SLOW_S = 0.3  # a batch of so many is measured once: what it allocates is little of that
LEAST_S = 0.05  # seconds that these take together, at least: short ones scatter
FREE_INPUT_SIZE = (512, 512)  # warm-up pixels of a checkpoint that fixes no input size


class TorchEngine:
    """The network of one checkpoint on one device.

    Args:
        source: what `models.checkpoint.load` takes; `bundled` is the one that ships for the task.
        task: `classify` or `segment`, which the checkpoint must be for.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        input_size: pixels a side of the network's input; 0 is what the checkpoint says.
        runtime: `torch`, `openvino`, or `auto` for the quicker one.
    """

    def __init__(
        self,
        source: str,
        *,
        task: Task,
        device: str = "auto",
        dtype: str = "auto",
        input_size: int = 0,
        runtime: Runtime = "torch",
    ) -> None:
        self._source = source
        self._task = task
        self._device = torch.device(resolve_device(device))
        self._runtime: Runtime = runtime
        self._dtype = resolve_dtype(dtype, self._device)
        self._input_size = input_size

    def load(self) -> ModelInfo:
        """Read the checkpoint and place the network on the device.

        Raises:
            models.checkpoint.CheckpointError: it cannot be loaded, or is for another task.
            ValueError: the runtime that was asked for is not there.
        """
        loaded = checkpoint.load(resolve_source(self._source, self._task))
        if loaded.task != self._task:
            raise checkpoint.CheckpointError(
                f"{loaded.name} is a model to {loaded.task}, not to {self._task}"
            )
        self._plain = loaded.network  # on the CPU, until an explanation is asked for
        self._preprocessing = resolve_preprocessing(loaded, self._input_size)
        form, runtime = inference_form(
            self._plain,
            runtime=self._runtime,
            device=self._device,
            dtype=self._dtype,
            normalization=self._preprocessing,
            size=self._preprocessing.input_size or FREE_INPUT_SIZE,
        )
        classify = cast(Classifier, form).classify if self._task == "classify" else None
        self._queues = streams_of(self._device)
        self._pipeline = Pipeline(self._queues)
        self._graphs = Graphs(classify or (lambda batch: (form(batch),)), self._queues.recorder)
        independent = loaded.multi_label or len(loaded.labels) == 1
        self._scores: Scores = torch.sigmoid if independent else _softmax
        return ModelInfo(
            task=loaded.task,
            labels=loaded.labels,
            preprocessing=self._preprocessing,
            device=str(self._device),
            dtype=str(self._dtype).removeprefix("torch."),
            runtime=runtime,
            parameters=sum(parameter.numel() for parameter in self._plain.parameters()),
        )

    def warm_up(self, max_batch_size: int, budget_s: float) -> dict[int, float]:
        """Run batches of 1, 2, 4, ... images; return the seconds of each size that was run.

        A size is not begun when, by the one before it, it would pass the budget, nor when two
        doublings have made an image no cheaper; 1 always is. On a GPU all of them are recorded
        first, on the thread that will run them.
        """
        ends = time.monotonic() + budget_s
        self._record(max_batch_size, ends)
        seconds = {1: self._measure(1)}
        best, size = 1, 2
        while size <= min(max_batch_size, 4 * best):
            expected = 2 * seconds[size // 2]
            if time.monotonic() + expected * (1 if expected > SLOW_S else 1 + REPEATS) > ends:
                break
            seconds[size] = self._measure(size)
            if seconds[size] / size < seconds[best] / best:
                best = size
            size *= 2
        return seconds

    def _record(self, max_batch_size: int, ends: float) -> None:
        height, width = self._preprocessing.input_size or FREE_INPUT_SIZE
        image = torch.zeros(height, width, 3, dtype=torch.uint8, device=self._device)
        sizes = [1 << power for power in range(max_batch_size.bit_length())]
        with self._queues.as_current_device():
            self._graphs.record(image, sizes, ends)

    def _measure(self, size: int) -> float:
        """The usual seconds of a batch of this size."""
        height, width = self._preprocessing.input_size or FREE_INPUT_SIZE
        pixels = np.zeros((height, width, 3), np.uint8)
        one: EngineInput = (
            ClassifyInput(pixels, 1)
            if self._task == "classify"
            else SegmentInput(pixels, (height, width))
        )
        taken: list[float] = []
        while len(taken) < 1 + REPEATS or sum(taken) < LEAST_S:
            taken.append(sum(self.run([one] * size).stages.values()))
            if taken[0] > SLOW_S:
                return taken[0]
        return median(taken[1:])  # the first allocates, and may compile

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        """Run one batch: inputs of one kind, pixels of one shape. Logits never leave the device.

        On a CPU any number of threads may do so at once.
        """
        return self.launch(inputs)()

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        """Begin a batch; what is returned waits for its end, and for nothing else, and gives it.

        Call it once. On a GPU both are for the thread that warmed up; a second batch is then
        staged while the first computes. The stages are the device's own time, without what a batch
        waits for the one before it.

        Raises:
            OutOfMemory, DeviceLost: as the seam says; either function may raise.
        """
        answer = reader_for(inputs, self._scores)
        compute = partial(self._compute, inputs)
        with translate_device_errors(self._device):
            collect = self._pipeline.launch(
                [one.pixels for one in inputs], compute, answer.on_device
            )

        def batch() -> BatchResult:
            with translate_device_errors(self._device):
                results, stages = collect()
                began = time.monotonic()
                outputs = answer.on_host(results)
            stages["postprocess"] += time.monotonic() - began
            return BatchResult(outputs, stages)

        return batch

    def memory(self) -> dict[str, int]:
        """Bytes of the device's memory by kind: allocated, reserved, total; nothing on a CPU.

        Nothing before `load` has woken CUDA, either: whoever asks must not wait for that.
        """
        if self._device.type != "cuda" or not torch.cuda.is_initialized():
            return {}
        return {
            "allocated": torch.cuda.memory_allocated(self._device),
            "reserved": torch.cuda.memory_reserved(self._device),
            "total": torch.cuda.get_device_properties(self._device).total_memory,
        }

    def _compute(self, inputs: Sequence[EngineInput], batch: Tensor) -> RawOutput:
        match inputs[0]:
            case EmbedInput():
                return self._graphs(batch)[1]  # (B, D)
            case ExplainInput():  # one by one: the attention of a whole batch may not fit
                with torch.inference_mode(False):  # else its parameters could have no gradients
                    network = self._plain.to(self._device)
                methods = [one.method for one in inputs if isinstance(one, ExplainInput)]
                pairs = zip(normalize(batch, self._preprocessing).split(1), methods, strict=True)
                return [explain(network, image, method) for image, method in pairs]
        return self._graphs(batch)[0]  # (B, num_labels, ...)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=-1)
