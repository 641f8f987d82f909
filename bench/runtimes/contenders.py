"""The contenders by name: each way to run a checkpoint on a batch."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from bench.runtimes.job import Job, Run
from bench.runtimes.others import onnxruntime, openvino, transformers
from bench.runtimes.ours import ours, ours_in_openvino, plain


class Contender(NamedTuple):
    """How to build a contender, its dtype, and the converted format that it needs, if any."""

    build: Callable[[Job], Run]
    dtype: str = "float32"
    needs: str = ""  # a format of bench.runtimes.export


BF16 = "bfloat16"
PLAIN, UNTIL = "ours, plain", "ours, until "
INSTALLED, SERVED = VARIANTS = (", as installed", ", as served")  # suffixes of names
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
    "ours, CUDA graphs": Contender(partial(ours, dtype=BF16, mode=GRAPHS), BF16),
}
CONTENDERS = {"cpu": CPU, "cuda": CUDA}


def contender(device: str, name: str) -> Contender:
    """Return the contender of a name, without the suffix for its environment variables.

    "ours, until <step>" is the optimization up to and including this step.
    """
    for suffix in VARIANTS:
        name = name.removesuffix(suffix)
    _, is_step, step = name.partition(UNTIL)
    if not is_step:
        return CONTENDERS[device][name]
    dtype = "float32" if device == "cpu" else BF16
    return Contender(partial(ours, dtype=dtype, until=step), dtype)
