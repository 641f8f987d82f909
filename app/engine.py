"""Owns a network on a device: it loads it, warms it up, and runs batches of pixels.

Knows nothing of queues, threads or HTTP; whoever calls it does so from one thread.
"""

import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch

from app.placement import folder_or_id, input_of, pick_dtype, resolve_device
from app.schemas import Task
from app.seam import (
    Batch,
    ClassifyInput,
    EmbedInput,
    EngineInput,
    EngineOutput,
    ExplainInput,
    ModelInfo,
    Ranking,
    Relevance,
    SegmentInput,
)
from models import checkpoint
from models.explain import Explanation, explain
from models.label_map import label_map
from models.preprocessing import normalize
from models.runtimes import Runtime, inference_form
from models.segformer import SegformerClassifier
from models.vit import ViT

Classifier = ViT | SegformerClassifier
Said = torch.Tensor | list[Explanation]  # what a batch gave, before it is brought to the caller

REPEATS = 3  # of each batch size at warm-up
FREE_INPUT_SIZE = (512, 512)  # warm-up pixels of a checkpoint that fixes no input size


class Engine:
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
        self._dtype = pick_dtype(dtype, self._device)
        self._input_size = input_size

    def load(self) -> ModelInfo:
        """Read the checkpoint and place the network on the device.

        Raises:
            models.checkpoint.CheckpointError: it cannot be loaded, or is for another task.
            ValueError: the runtime that was asked for is not there.
        """
        loaded = checkpoint.load(folder_or_id(self._source, self._task))
        if loaded.task != self._task:
            raise checkpoint.CheckpointError(
                f"{loaded.name} is a model to {loaded.task}, not to {self._task}"
            )
        self._plain = loaded.network  # on the CPU, until an explanation is asked for
        self._preprocessing = input_of(loaded, self._input_size)
        self._form, runtime = inference_form(
            self._plain,
            runtime=self._runtime,
            device=self._device,
            dtype=self._dtype,
            normalization=self._preprocessing,
            size=self._preprocessing.input_size or FREE_INPUT_SIZE,
        )
        independent = loaded.multi_label or len(loaded.labels) == 1
        self._scores: Callable[..., torch.Tensor] = torch.sigmoid if independent else _softmax
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
        doublings have made an image no cheaper; 1 always is.
        """
        ends = time.monotonic() + budget_s
        seconds = {1: self._measure(1)}
        best, size = 1, 2
        while size <= min(max_batch_size, 4 * best):
            if time.monotonic() + 2 * REPEATS * seconds[size // 2] > ends:
                break
            seconds[size] = self._measure(size)
            if seconds[size] / size < seconds[best] / best:
                best = size
            size *= 2
        return seconds

    def _measure(self, size: int) -> float:
        """The least seconds of a batch of this size; the first run allocates, and may compile."""
        height, width = self._preprocessing.input_size or FREE_INPUT_SIZE
        pixels = np.zeros((height, width, 3), np.uint8)
        one: EngineInput = (
            ClassifyInput(pixels, 1)
            if self._task == "classify"
            else SegmentInput(pixels, (height, width))
        )
        return min(sum(self.run([one] * size).stages.values()) for _ in range(REPEATS))

    def run(self, inputs: Sequence[EngineInput]) -> Batch:
        """Run one batch: inputs of one kind, pixels of one shape. Logits never leave the device."""
        return self.launch(inputs)()

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], Batch]:
        """Begin a batch; what is returned gives it when it is done."""
        batch = self._run(inputs)
        return lambda: batch

    @torch.inference_mode()
    def _run(self, inputs: Sequence[EngineInput]) -> Batch:
        began = time.monotonic()
        batch = torch.from_numpy(np.stack([one.pixels for one in inputs])).to(self._device)
        staged = time.monotonic()
        said = self._compute(batch, inputs)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # else the next stage is charged with this one
        computed = time.monotonic()
        outputs = self._reduce(said, inputs)
        done = time.monotonic()
        stages = {
            "stage_in": staged - began,
            "compute": computed - staged,
            "postprocess": done - computed,
        }
        return Batch(outputs, stages)

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

    def _compute(self, batch: torch.Tensor, inputs: Sequence[EngineInput]) -> Said:
        match inputs[0]:
            case EmbedInput():
                return cast(Classifier, self._form).classify(batch).embedding  # (B, D)
            case ExplainInput():  # one by one: the attention of a whole batch may not fit
                with torch.inference_mode(False):  # else its parameters could have no gradients
                    network = self._plain.to(self._device)
                methods = [one.method for one in inputs if isinstance(one, ExplainInput)]
                pairs = zip(normalize(batch, self._preprocessing).split(1), methods, strict=True)
                return [explain(network, image, method) for image, method in pairs]
        return self._form(batch)  # (B, num_labels, ...)

    def _reduce(self, said: Said, inputs: Sequence[EngineInput]) -> list[EngineOutput]:
        if isinstance(said, list):
            top_ks = [one.top_k for one in inputs if isinstance(one, ExplainInput)]
            logits = torch.cat([explanation.logits for explanation in said])
            rankings = self._rank(logits, top_ks)
            return [_relevance(*pair) for pair in zip(rankings, said, strict=True)]
        if isinstance(inputs[0], EmbedInput):
            return list(said.float().cpu().numpy())
        if self._task == "classify":
            top_ks = [one.top_k for one in inputs if isinstance(one, ClassifyInput)]
            return list(self._rank(said, top_ks))
        sizes = [one.size for one in inputs if isinstance(one, SegmentInput)]
        return [
            label_map(image, size).cpu().numpy() for image, size in zip(said, sizes, strict=True)
        ]

    def _rank(self, logits: torch.Tensor, top_ks: Sequence[int]) -> list[Ranking]:
        scores, indices = self._scores(logits.float()).topk(max(top_ks))  # each (B, k)
        rows = zip(indices.tolist(), scores.tolist(), top_ks, strict=True)
        return [Ranking(index[:top_k], score[:top_k]) for index, score, top_k in rows]


def _relevance(ranking: Ranking, explanation: Explanation) -> Relevance:
    return Relevance(
        ranking=ranking,
        grid=explanation.relevance[0].cpu().numpy(),
        cell=explanation.cell,
        attention_distance=[heads[0].tolist() for heads in explanation.attention_distance],
    )


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(dim=-1)
