"""The torch engine: loads a checkpoint onto a device, warms it up, and runs batches."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import cast

import numpy as np
import torch
from torch import Tensor

from app.core.types import ProblemType, Task
from app.engine.device_errors import translate_device_errors
from app.engine.interface import (
    DEFAULT_INPUT_SIZE,
    BatchResult,
    EmbedInput,
    EngineInput,
    ExplainInput,
    ModelInfo,
    OutOfMemory,
    blank_input,
)
from app.engine.outputs import RawOutput, Scores, label_map_on, reader_for
from app.engine.pipeline import Graphs, Pipeline, streams_of
from app.engine.placement import (
    configure_cuda,
    limit_gpu_memory,
    resolve_device,
    resolve_dtype,
    resolve_preprocessing,
    resolve_source,
)
from models import checkpoint
from models.checkpoint import DEFAULT_OPTIONS, LoadOptions
from models.explain import explain
from models.preprocessing import normalize
from models.runtimes.select import Runtime, inference_form
from models.segformer import SegformerClassifier
from models.vit import ViT

logger = logging.getLogger(__name__)

Classifier = ViT | SegformerClassifier

MIN_REPEATS = 3  # measured runs of each batch size at warm-up
SLOW_S = 0.3  # a batch that takes longer is run once: its first allocations hardly matter
SHORT_S = 0.05  # a shorter batch is measured even if it promises no lower cost
MIN_MEASURED_S = 0.05  # total duration of the runs of one size: single short runs vary too much


class TorchEngine:
    """The network of one checkpoint on one device.

    Args:
        source: for `models.checkpoint.load`; `bundled` is the bundled checkpoint of the task.
        task: `classify` or `segment`; the checkpoint must be for the same task.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        input_size: pixels a side of the network's input; 0 for the size in the checkpoint.
        runtime: `torch`, `openvino`, or `auto` for the faster runtime.
        capture_s: time limit of the capture of CUDA graphs, in seconds.
        gpu_share: the part of the GPU's memory that this process may use.
        load_options: for `models.checkpoint.load`.
    """

    def __init__(  # noqa: PLR0913  # each is a setting of its own
        self,
        source: str,
        *,
        task: Task,
        device: str = "auto",
        dtype: str = "auto",
        input_size: int = 0,
        runtime: Runtime = "torch",
        capture_s: float = 60.0,
        gpu_share: float = 1.0,
        load_options: LoadOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._source = source
        self._task = task
        self._device = torch.device(resolve_device(device))
        self._runtime: Runtime = runtime
        self._dtype_name = dtype
        self._input_size = input_size
        self._capture_s = capture_s
        self._gpu_share = gpu_share
        self._load_options = load_options

    def load(self) -> ModelInfo:
        """Read the checkpoint, place the network on the device, and run one image.

        Raises:
            models.checkpoint.CheckpointError: it cannot be loaded, is for another task, or computes
                values that are not finite.
            OutOfMemory: not even one image fits.
            ValueError: the runtime is not installed.
        """
        return self.place(self._checkpoint())

    def place(self, loaded: checkpoint.Checkpoint) -> ModelInfo:
        """Place a loaded checkpoint of the engine's task on the device, and run one image.

        Raises:
            models.checkpoint.CheckpointError, OutOfMemory, ValueError: as in `load`.
        """
        checkpoint.require_rgb(loaded)
        self._dtype = resolve_dtype(self._dtype_name, self._device)
        if self._device.type == "cuda":
            configure_cuda(self._dtype)
            limit_gpu_memory(self._device, self._gpu_share)
        self._plain = loaded.network  # on the CPU until the first explanation
        self._preprocessing = resolve_preprocessing(loaded, self._input_size)
        runtime = self._build()
        self._scores = scores_of(loaded.problem_type, len(loaded.labels))
        self._require_finite_output(loaded.name)
        return ModelInfo(
            task=loaded.task,
            labels=loaded.labels,
            preprocessing=self._preprocessing,
            device=str(self._device),
            dtype=str(self._dtype).removeprefix("torch."),
            runtime=runtime,
            parameters=sum(parameter.numel() for parameter in self._plain.parameters()),
            problem_type=loaded.problem_type,
            preprocessing_assumed=loaded.preprocessing_assumed,
            assumptions=loaded.warnings,
        )

    def _build(self) -> str:
        """Build the inference form and what runs it on the device; returns the runtime's name."""
        form, runtime = inference_form(
            self._plain,
            runtime=self._runtime,
            device=self._device,
            dtype=self._dtype,
            normalization=self._preprocessing,
            size=self._preprocessing.input_size or DEFAULT_INPUT_SIZE,
        )
        classify = cast(Classifier, form).classify if self._task == "classify" else None
        self._streams = streams_of(self._device)
        if self._task == "segment":
            with self._streams.as_current_device():
                label_map_on(self._device.type)  # compiles it
        self._pipeline = Pipeline(self._streams)
        self._graphs = Graphs(classify or (lambda batch: (form(batch),)), self._streams.recorder)
        return runtime

    def _checkpoint(self) -> checkpoint.Checkpoint:
        """Read the checkpoint and log its warnings; CheckpointError if it is for another task."""
        loaded = checkpoint.load(resolve_source(self._source, self._task), self._load_options)
        if loaded.task != self._task:
            raise checkpoint.CheckpointError(
                f"{loaded.name} is a model to {loaded.task}, not to {self._task}"
            )
        for warning in loaded.warnings:
            logger.warning("%s: %s", loaded.name, warning)
        return loaded

    def _require_finite_output(self, name: str) -> None:
        """Run an image of noise, and raise CheckpointError if a value of the output is not finite.

        Either a weight is not finite, or values exceed the range of the number format.
        """
        height, width = self._preprocessing.input_size or DEFAULT_INPUT_SIZE
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        with translate_device_errors(self._device):
            collect = self._pipeline.launch(
                [image], lambda batch: self._graphs(batch)[0], lambda raw: [raw.isfinite().all()]
            )
            (finite,) = collect().results
        if not finite:
            dtype = str(self._dtype).removeprefix("torch.")
            hint = "" if dtype == "float32" else "; --dtype float32 may help"
            raise checkpoint.CheckpointError(
                f"{name}: the network's output is not finite in {dtype}{hint}"
            )

    def warm_up(self, max_batch_size: int, budget_s: float) -> dict[int, float]:
        """Run batches of 1, 2, 4, ... images, and return the seconds by batch size.

        Size 1 is always run. A larger size is not started if it would exceed the budget, judging by
        the size before it, or if it takes 50 ms or more and the last two sizes did not lower the
        cost of an image. On a GPU, all sizes are captured first, on the thread that will run them,
        and each captured size is run. A size that does not fit into the memory ends the
        measurement.

        Args:
            max_batch_size: the largest size to run.
            budget_s: time limit, in seconds, without the captures.

        Raises:
            OutOfMemory: not even one image fits.
        """
        self._capture(max_batch_size)
        end = time.monotonic() + budget_s
        seconds = {1: self._measure(1)}
        best, size = 1, 2
        while size <= max_batch_size:
            expected = 2 * seconds[size // 2]
            runs = 1 if expected > SLOW_S else 1 + MIN_REPEATS
            in_time = time.monotonic() + expected * runs <= end
            useful = size <= 4 * best or expected < SHORT_S
            if size not in self._graphs.sizes and not (in_time and useful):
                break
            try:
                seconds[size] = self._measure(size)
            except (OutOfMemory, RuntimeError) as error:
                logger.warning("batches of %d images cannot run: %s", size, error)
                break
            if seconds[size] / size < seconds[best] / best:
                best = size
            size *= 2
        few = min(3, max_batch_size.bit_length())
        if self._streams.recorder is not None and len(seconds) < few:
            logger.warning("only batches of %s images were measured", list(seconds))
        return seconds

    def _capture(self, max_batch_size: int) -> None:
        if self._streams.recorder is None:
            return
        height, width = self._preprocessing.input_size or DEFAULT_INPUT_SIZE
        image = torch.zeros(height, width, 3, dtype=torch.uint8, device=self._device)
        sizes = [1 << power for power in range(max_batch_size.bit_length())]
        start = time.monotonic()
        with self._streams.as_current_device():
            self._graphs.record(image, sizes, start + self._capture_s)
        level = logging.INFO if len(self._graphs.sizes) == len(sizes) else logging.WARNING
        captured = ", ".join(map(str, self._graphs.sizes)) or "none"
        seconds = time.monotonic() - start
        logger.log(level, "captured batches of %s of %s in %.1f s", captured, sizes, seconds)

    def _measure(self, size: int) -> float:
        """Median seconds of a batch of this size."""
        image = blank_input(self._task, self._preprocessing)
        first = 0 if self._streams.recorder is None else 1
        taken: list[float] = []
        while len(taken) < 1 + MIN_REPEATS or sum(taken) < MIN_MEASURED_S:
            taken.append(sum(self.run([image] * size).stages.values()))
            if len(taken) > first and taken[first] > SLOW_S:  # a GPU may compile in its first run
                return taken[first]
        return median(taken[1:])  # the first run allocates memory, and may compile

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        """Run one batch of inputs of one kind, with pixels of one shape.

        On a CPU, any number of threads may call it at the same time.
        """
        return self.launch(inputs)()

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        """Start a batch, and return a function that waits for only this batch and returns it.

        Call that function once. On a GPU, call both on the thread that warmed up; a second batch is
        then staged while the first one computes. The stages exclude the wait for earlier batches.

        Raises:
            OutOfMemory, DeviceLost: see `InferenceEngine`; either function may raise.
        """
        reader = reader_for(inputs, self._scores)
        compute = partial(self._compute, inputs)
        with translate_device_errors(self._device):
            collect = self._pipeline.launch(
                [image.pixels for image in inputs], compute, reader.on_device
            )

        def wait() -> BatchResult:
            with translate_device_errors(self._device):
                results, stages, device_s = collect()
                start = time.monotonic()
                outputs = reader.on_host(results)
            stages["postprocess"] += time.monotonic() - start
            return BatchResult(outputs, stages, device_s)

        return wait

    def memory(self) -> dict[str, int]:
        """Bytes of the device's memory by kind: allocated, reserved, total; empty on a CPU.

        Also empty before `load` has initialized CUDA, because that would block the caller.
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
            case ExplainInput():  # one at a time: the attention of a whole batch may not fit
                # outside of inference mode: parameters that move in it could not have gradients
                with torch.inference_mode(False):
                    network = self._plain.to(self._device)
                methods = [image.method for image in inputs if isinstance(image, ExplainInput)]
                pairs = zip(normalize(batch, self._preprocessing).split(1), methods, strict=True)
                return [explain(network, image, method) for image, method in pairs]
        return self._graphs(batch)[0]  # (B, num_labels, ...)


def scores_of(problem_type: ProblemType, count: int) -> Scores:
    """The function from logits (B, `count`) to scores that transformers' pipelines apply, too.

    The outputs of a regression are the values themselves.
    """
    if problem_type == "regression":
        return lambda logits: logits
    independent = problem_type == "multi_label_classification" or count == 1
    return torch.sigmoid if independent else _softmax


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=-1)
