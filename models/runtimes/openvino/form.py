"""The inference form of a network in OpenVINO; any number of threads may call it at once."""

import threading
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.layers.heads import ClassifierOutput
from models.preprocessing import Preprocessing, Size
from models.registry import Network
from models.runtimes.openvino.conversion import convert, segments
from models.runtimes.openvino.package import import_openvino
from models.runtimes.openvino.store import cache_key, cached, default_folder

BATCH_SIZES = (8, 4, 2, 1)  # compiled; larger batches are hardly faster per image
MAX_COMPILED = 8  # compiled models to keep, by batch size and image size
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINOForm:
    """`form(pixels)` returns float32 logits like `models.runtimes.optimize.optimize(network)`.

    With a `normalization` pixels are uint8 (B, H, W, C), otherwise float (B, C, H, W), on the CPU.
    The form of a classifier also has `classify`. The network is not modified. The first batch of an
    image size converts the network, which takes seconds unless the folder has the model. The first
    batch of 1, 2, 4 or 8 images compiles the model, which takes tenths of a second. A service
    should do both at warm-up. The most recently used compiled models are kept.

    Args:
        network: a plain network in eval mode.
        dtype: the dtype to compute in, float32 or bfloat16.
        normalization: the preprocessing; its normalization is folded into the first layer.
        threads: number of cores to use; torch's number of threads by default.
        folder: cache of converted models; `store.default_folder()` by default.

    Raises:
        RuntimeError: OpenVINO is not installed.
        ValueError: the dtype is not supported.
    """

    def __init__(
        self,
        network: Network,
        *,
        dtype: torch.dtype = torch.float32,
        normalization: Preprocessing | None = None,
        threads: int | None = None,
        folder: Path | None = None,
    ) -> None:
        if dtype not in PRECISIONS:
            raise ValueError(f"OpenVINO supports float32 and bfloat16 here, not {dtype}")
        self._network = network
        self._normalization = normalization
        self._folder = default_folder() if folder is None else folder
        self._core = import_openvino().Core()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
        }
        self._model: tuple[Size, Any] | None = None  # latest image size and its openvino.Model
        self._compiled: OrderedDict[tuple[int, ...], CompiledModel] = OrderedDict()  # LRU order
        self._lock = threading.Lock()  # guards the two attributes above

    def __call__(self, pixels: Tensor) -> Tensor:
        logits = self._run(pixels)[0]
        return logits.permute(0, 3, 1, 2) if segments(self._network) else logits

    def classify(self, pixels: Tensor) -> ClassifierOutput:
        """Return logits (B, num_labels) and the embedding (B, D). TypeError for a segmenter."""
        return ClassifierOutput(*self._run(pixels))

    def _run(self, pixels: Tensor) -> list[Tensor]:
        if self._normalization is None:
            pixels = pixels.float()
        batches = pixels.split(batch_sizes(len(pixels)))
        outputs = [self._compiled_for(tuple(x.shape)).run(x.contiguous()) for x in batches]
        if len(outputs) == 1:
            return outputs[0]
        return [torch.cat(parts) for parts in zip(*outputs, strict=True)]

    def _compiled_for(self, shape: tuple[int, ...]) -> "CompiledModel":
        with self._lock:
            if shape not in self._compiled:
                self._compiled[shape] = self._compile(shape)
                if len(self._compiled) > MAX_COMPILED:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(shape)
            return self._compiled[shape]

    def _compile(self, shape: tuple[int, ...]) -> "CompiledModel":
        size = (shape[2], shape[3]) if self._normalization is None else (shape[1], shape[2])
        if self._model is None or self._model[0] != size:
            model = cached(
                self._folder,
                cache_key(self._network, size, self._normalization),
                lambda: convert(self._network, size, self._normalization),
            )
            self._model = (size, model)
        fixed = self._model[1].clone()
        fixed.reshape(list(shape))  # a fixed batch size is faster than a dynamic one
        return CompiledModel(self._core.compile_model(fixed, "CPU", self._settings))


def batch_sizes(batch_size: int) -> list[int]:
    """Split a batch into batches of 8, 4, 2 and 1, as each compiled size has its own weights."""
    sizes = []
    for size in BATCH_SIZES:
        sizes += [size] * (batch_size // size)
        batch_size %= size
    return sizes


class CompiledModel:
    """A compiled model for one input shape, and its idle requests: one per concurrent caller."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._shapes = [tuple(output.shape) for output in model.outputs]
        self._idle: deque[Any] = deque()  # of openvino.InferRequest

    def run(self, pixels: Tensor) -> list[Tensor]:
        """Run a batch; OpenVINO reads and writes the tensors' memory, so nothing is copied."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        outputs = [torch.empty(shape) for shape in self._shapes]
        request.set_input_tensor(as_openvino(pixels))
        for index, output in enumerate(outputs):
            request.set_output_tensor(index, as_openvino(output))
        request.infer()
        self._idle.append(request)
        return outputs


def as_openvino(tensor: Tensor) -> Any:
    """Return an openvino.Tensor of the same memory."""
    return import_openvino().Tensor(tensor.numpy(), shared_memory=True)
