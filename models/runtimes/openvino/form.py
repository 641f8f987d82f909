"""A network in OpenVINO, called as its inference form in torch is.

Knows nothing of queues or lanes; any number of threads may call it at once.
"""

import threading
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.layers.heads import Classified
from models.preprocessing import Preprocessing, Size
from models.registry import Network
from models.runtimes.openvino.conversion import convert, segments
from models.runtimes.openvino.package import import_openvino
from models.runtimes.openvino.store import default_folder, key_of, stored

PIECES = (8, 4, 2, 1)  # images at once; more are hardly quicker
KEPT = 8  # compiled graphs, by batch and image size
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINOForm:
    """`form(pixels)` gives float32 logits as `models.runtimes.optimize.optimize(network)` does.

    With a `normalization` pixels are uint8 (B, H, W, 3), else float (B, 3, H, W), on the CPU. A
    classifier's form has `classify`, too. The network stays as it is. An image size is converted
    when first seen, which takes seconds unless the folder has it, and batches of 1, 2, 4 and 8 are
    compiled when first seen, which takes tenths of one: whoever serves does both at the warm-up.
    Only the graphs that were used last are kept.

    Args:
        network: a plain network in eval mode.
        dtype: what to compute in, float32 or bfloat16.
        normalization: what to fold into the first layer.
        threads: how many cores to use; torch's number of threads unless given.
        folder: where to keep converted graphs; see `store.default_folder`.

    Raises:
        RuntimeError: OpenVINO is not installed.
        ValueError: a dtype that it does not compute in.
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
            raise ValueError(f"OpenVINO computes in float32 or bfloat16 here, not in {dtype}")
        self._network = network
        self._normalization = normalization
        self._folder = default_folder() if folder is None else folder
        self._core = import_openvino().Core()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
        }
        self._graph: tuple[Size, Any] | None = None  # the last image size and its openvino.Model
        self._compiled: OrderedDict[tuple[int, ...], Compiled] = OrderedDict()  # last used last
        self._lock = threading.Lock()  # of the two above

    def __call__(self, pixels: Tensor) -> Tensor:
        logits = self._run(pixels)[0]
        return logits.permute(0, 3, 1, 2) if segments(self._network) else logits

    def classify(self, pixels: Tensor) -> Classified:
        """The logits (B, num_labels), and the embedding; TypeError for a segmenter."""
        return Classified(*self._run(pixels))

    def _run(self, pixels: Tensor) -> list[Tensor]:
        if self._normalization is None:
            pixels = pixels.float()
        pieces = pixels.split(piece_sizes(len(pixels)))
        outputs = [self._compiled_for(tuple(x.shape)).run(x.contiguous()) for x in pieces]
        return (
            outputs[0]
            if len(pieces) == 1
            else [torch.cat(one) for one in zip(*outputs, strict=True)]
        )

    def _compiled_for(self, shape: tuple[int, ...]) -> "Compiled":
        with self._lock:
            if shape not in self._compiled:
                self._compiled[shape] = self._compile(shape)
                if len(self._compiled) > KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(shape)
            return self._compiled[shape]

    def _compile(self, shape: tuple[int, ...]) -> "Compiled":
        size = (shape[2], shape[3]) if self._normalization is None else (shape[1], shape[2])
        if self._graph is None or self._graph[0] != size:
            graph = stored(
                self._folder,
                key_of(self._network, size, self._normalization),
                lambda: convert(self._network, size, self._normalization),
            )
            self._graph = (size, graph)
        fixed = self._graph[1].clone()
        fixed.reshape(list(shape))  # a fixed batch is quicker than any batch
        return Compiled(self._core.compile_model(fixed, "CPU", self._settings))


def piece_sizes(batch_size: int) -> list[int]:
    """A batch as pieces of 8, 4, 2 and 1: each size is compiled, and has weights, by itself."""
    sizes = []
    for size in PIECES:
        sizes += [size] * (batch_size // size)
        batch_size %= size
    return sizes


class Compiled:
    """A compiled graph for one shape, and its idle requests: each caller has one to itself."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._shapes = [tuple(output.shape) for output in model.outputs]
        self._idle: deque[Any] = deque()  # of openvino.InferRequest

    def run(self, pixels: Tensor) -> list[Tensor]:
        """The outputs, which the network writes where they shall be: nothing is copied."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        outputs = [torch.empty(shape) for shape in self._shapes]
        request.set_input_tensor(view(pixels))
        for index, output in enumerate(outputs):
            request.set_output_tensor(index, view(output))
        request.infer()
        self._idle.append(request)
        return outputs


def view(tensor: Tensor) -> Any:
    """The same memory as an openvino.Tensor."""
    return import_openvino().Tensor(tensor.numpy(), shared_memory=True)
