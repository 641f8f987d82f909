"""Our ways to run a checkpoint: plain, optimized up to a step, and in OpenVINO.

Each runtime is imported only when it is built.
"""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bench.runtimes.job import Job, Run, in_torch

if TYPE_CHECKING:
    from torch import nn


def plain(job: Job, dtype: str = "float32") -> Run:
    """Build our network as it is in models/."""
    import torch

    from models import checkpoint

    network = checkpoint.load(job.folder).network.to(job.device, getattr(torch, dtype))
    pixels = torch.from_numpy(np.load(job.pixels)).to(job.device, getattr(torch, dtype))
    return in_torch(network, pixels, job.device)


def ours(
    job: Job,
    dtype: str = "float32",
    until: str | None = None,
    compile: bool = False,
    mode: str | None = None,
) -> Run:
    """Build our network optimized, by all steps or up to a named one.

    It runs on the bytes of images; before the step that folds the normalization, on normalized
    pixels like the other contenders.
    """
    import torch

    from models import checkpoint
    from models.runtimes.optimize import steps

    loaded = checkpoint.load(job.folder)
    form: nn.Module = loaded.network
    pixels, precision = job.pixels, getattr(torch, dtype)
    for step in steps(
        device=job.device, dtype=precision, normalization=loaded.preprocessing, compile=compile
    ):
        form = step.apply(form)
        pixels = job.images if step.name == "fold_normalization" else pixels
        if step.name == until:
            break
    network = form if mode is None else torch.compile(form, mode=mode, dynamic=False)
    run = in_torch(network, torch.from_numpy(np.load(pixels)).to(job.device), job.device)
    if compile or mode is not None:
        run()  # compiles
    return run


def ours_in_openvino(job: Job, dtype: str = "float32") -> Run:
    """Build our folded network in OpenVINO, on the bytes of images."""
    import torch

    from models import checkpoint
    from models.runtimes.openvino import OpenVINOForm

    loaded = checkpoint.load(job.folder)
    form = OpenVINOForm(
        loaded.network,
        dtype=getattr(torch, dtype),
        normalization=loaded.preprocessing,
        folder=job.folder / "openvino",
    )
    return partial(form, torch.from_numpy(np.load(job.images)))
