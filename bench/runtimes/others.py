"""Other ways to run a checkpoint: transformers, ONNX Runtime and OpenVINO.

Each runtime is imported only when it is built.
"""

import os
from functools import partial

import numpy as np

from bench.runtimes.job import Job, Run, in_torch


def transformers(job: Job, dtype: str = "float32", mode: str | None = None) -> Run:
    """Build transformers, optionally through torch.compile in one of its modes."""
    import torch

    from bench.runtimes.export import load

    network = load(job.folder, getattr(torch, dtype), job.device)
    if mode is not None:
        torch._inductor.config.freezing = job.device == "cpu"  # weights become packed constants
        network = torch.compile(network, mode=mode, dynamic=False)
    pixels = torch.from_numpy(np.load(job.pixels)).to(job.device, getattr(torch, dtype))
    run = in_torch(network, pixels, job.device)
    if mode is not None:
        run()  # compiles
    return run


def onnxruntime(job: Job) -> Run:
    """Build transformers' network in ONNX Runtime, on every core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    file, providers = job.converted("onnx"), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(file, options, providers=providers)
    (name,) = (one.name for one in session.get_inputs())
    return partial(session.run, None, {name: np.load(job.pixels)})


def openvino(job: Job, dtype: str = "float32") -> Run:
    """Build transformers' network in OpenVINO, on every core."""
    from models.runtimes.openvino.package import import_openvino

    openvino = import_openvino()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": os.cpu_count() or 1,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
    }
    model = openvino.Core().compile_model(job.converted("openvino"), "CPU", settings)
    request, pixels = model.create_infer_request(), openvino.Tensor(np.load(job.pixels))
    return partial(request.infer, [pixels], share_inputs=True, share_outputs=True)
