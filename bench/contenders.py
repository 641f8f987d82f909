"""Owns the contenders: each way to run a checkpoint on a batch, by name.

Knows nothing of clocks or processes. A contender loads its own runtime only when it is built.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn


class Job(NamedTuple):
    """What to run: a checkpoint, what was prepared for it beside it, and the batch and device."""

    folder: Path
    batch: int
    device: str = "cpu"

    @property
    def images(self) -> Path:
        """The batch as uint8 (B, H, W, 3)."""
        return self.folder / f"images-{self.batch}.npy"

    @property
    def pixels(self) -> Path:
        """The same batch normalised, float32 (B, 3, H, W)."""
        return self.folder / f"pixels-{self.batch}.npy"

    def converted(self, format_: str) -> Path:
        """transformers' network as ONNX or in OpenVINO's format, for this batch."""
        return self.folder / f"batch-{self.batch}.{SUFFIXES[format_]}"


SUFFIXES = {"onnx": "onnx", "openvino": "xml"}
Run = Callable[[], Any]  # one batch; what it returns is for numpy_of


class Contender(NamedTuple):
    """How to build one, and what its figures are held against."""

    build: Callable[[Job], Run]
    dtype: str = "float32"
    needs: str = ""  # a format that transformers' network is converted to


def in_torch(network: "nn.Module", input_: "torch.Tensor", device: str) -> Run:
    """The network on the input, which is on the device already; done when the device is."""
    import torch

    def run() -> "torch.Tensor":
        with torch.inference_mode():
            logits = network(input_)
        if device == "cuda":
            torch.cuda.synchronize()
        return logits

    return run


def transformers(job: Job, dtype: str = "float32", mode: str | None = None) -> Run:
    """transformers as it comes, or through torch.compile with a mode of its."""
    import torch

    from bench.transformers_networks import load

    network = load(job.folder, getattr(torch, dtype), job.device)
    if mode is not None:
        torch._inductor.config.freezing = job.device == "cpu"  # weights become constants, packed
        network = torch.compile(network, mode=mode, dynamic=False)
    pixels = torch.from_numpy(np.load(job.pixels)).to(job.device, getattr(torch, dtype))
    run = in_torch(network, pixels, job.device)
    if mode is not None:
        run()  # compiles
    return run


def plain(job: Job, dtype: str = "float32") -> Run:
    """Our network as models/ has it."""
    import torch

    from models import checkpoint

    network = checkpoint.load(job.folder).network.to(job.device, getattr(torch, dtype))
    pixels = torch.from_numpy(np.load(job.pixels)).to(job.device, getattr(torch, dtype))
    return in_torch(network, pixels, job.device)


def ours(job: Job, dtype: str = "float32", until: str | None = None, compile: bool = False) -> Run:
    """Our network optimized, by every step or those up to a named one; on the bytes of images.

    Before the step that folds the normalisation it runs on normalised pixels, as the others do.
    """
    import torch

    from models import checkpoint
    from models.optimize import steps

    loaded = checkpoint.load(job.folder)
    form: nn.Module = loaded.network
    pixels = job.pixels
    for step in steps(
        device=job.device,
        dtype=getattr(torch, dtype),
        normalization=loaded.preprocessing,
        compile=compile,
    ):
        form = step.apply(form)
        pixels = job.images if step.name == "fold_normalization" else pixels
        if step.name == until:
            break
    return in_torch(form, torch.from_numpy(np.load(pixels)).to(job.device), job.device)


def ours_in_openvino(job: Job, dtype: str = "float32") -> Run:
    """Our folded network in OpenVINO, on the bytes of images."""
    import torch

    from models import checkpoint
    from models.openvino_runtime import OpenVINOForm

    loaded = checkpoint.load(job.folder)
    form = OpenVINOForm(
        loaded.network,
        dtype=getattr(torch, dtype),
        normalization=loaded.preprocessing,
        folder=job.folder / "openvino",
    )
    return partial(form, torch.from_numpy(np.load(job.images)))


def onnxruntime(job: Job) -> Run:
    """transformers' network in ONNX Runtime, on every core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    file, providers = job.converted("onnx"), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(file, options, providers=providers)
    (name,) = (one.name for one in session.get_inputs())
    return partial(session.run, None, {name: np.load(job.pixels)})


def openvino(job: Job, dtype: str = "float32") -> Run:
    """transformers' network in OpenVINO, on every core."""
    from models.openvino_runtime.package import import_openvino

    openvino = import_openvino()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": os.cpu_count() or 1,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
    }
    model = openvino.Core().compile_model(job.converted("openvino"), "CPU", settings)
    request, pixels = model.create_infer_request(), openvino.Tensor(np.load(job.pixels))
    return partial(request.infer, [pixels], share_inputs=True, share_outputs=True)


def numpy_of(output: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """The logits in what a contender's run returned, as float32."""
    if hasattr(output, "float"):  # a tensor of torch
        return output.float().cpu().numpy()
    (logits,) = output.values() if hasattr(output, "values") else output
    return np.array(logits, np.float32)


BF16 = "bfloat16"
UNTIL = "ours, until "
INSTALLED, SERVED = VARIANTS = (", as installed", ", as served")
CPU = {
    "transformers": Contender(transformers),
    "transformers, torch.compile": Contender(partial(transformers, mode="default")),
    "ONNX Runtime": Contender(onnxruntime, needs="onnx"),
    "OpenVINO": Contender(openvino, needs="openvino"),
    "OpenVINO bf16": Contender(partial(openvino, dtype=BF16), BF16, "openvino"),
    "ours, plain": Contender(plain),
    "ours": Contender(ours),
    "ours bf16": Contender(partial(ours, dtype=BF16), BF16),
    "ours in OpenVINO": Contender(ours_in_openvino),
    "ours in OpenVINO bf16": Contender(partial(ours_in_openvino, dtype=BF16), BF16),
}
GRAPHS = "reduce-overhead"  # torch.compile's name for CUDA graphs
CUDA = {
    "transformers fp32": Contender(transformers),
    "transformers": Contender(partial(transformers, dtype=BF16), BF16),
    "transformers, torch.compile": Contender(
        partial(transformers, dtype=BF16, mode="default"), BF16
    ),
    "transformers, torch.compile, CUDA graphs": Contender(
        partial(transformers, dtype=BF16, mode=GRAPHS), BF16
    ),
    "ours, plain": Contender(partial(plain, dtype=BF16), BF16),
    "ours": Contender(partial(ours, dtype=BF16), BF16),
    "ours, compiled": Contender(partial(ours, dtype=BF16, compile=True), BF16),
}
CONTENDERS = {"cpu": CPU, "cuda": CUDA}


def contender(device: str, name: str) -> Contender:
    """The contender of that name, whatever is said behind it of the variables that it runs with.

    "ours, until <step>" are the steps of the optimization up to that one.
    """
    for suffix in VARIANTS:
        name = name.removesuffix(suffix)
    _, is_step, step = name.partition(UNTIL)
    if not is_step:
        return CONTENDERS[device][name]
    dtype = "float32" if device == "cpu" else BF16
    return Contender(partial(ours, dtype=dtype, until=step), dtype)
