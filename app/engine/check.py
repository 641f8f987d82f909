"""Tries a checkpoint as the service would: loads it, and runs one image on the device."""

import time
from dataclasses import dataclass
from pathlib import Path

from app.engine.engine import TorchEngine
from app.engine.interface import ModelInfo, blank_input
from models import checkpoint
from models.checkpoint import DEFAULT_OPTIONS, LoadOptions
from models.registry import architecture_of
from models.runtimes.select import Runtime


@dataclass(frozen=True)
class Trial:
    """A checkpoint that can be served.

    Attributes:
        name: of the model.
        architecture: the name in transformers under which the network is saved.
        info: what the engine says of the loaded model.
        stored_dtypes: number formats of the stored tensors.
        warnings: what was assumed, one sentence each.
        input_size: height and width of the image that was run.
        forward_s: seconds of its forward pass, with its copies; the first pass is not counted.
    """

    name: str
    architecture: str
    info: ModelInfo
    stored_dtypes: tuple[str, ...]
    warnings: tuple[str, ...]
    input_size: tuple[int, int]
    forward_s: float


def try_checkpoint(
    source: str | Path,
    *,
    device: str,
    dtype: str,
    runtime: Runtime,
    input_size: int = 0,
    load_options: LoadOptions = DEFAULT_OPTIONS,
) -> Trial:
    """Load a checkpoint of any task and run an image.

    Args:
        source: for `models.checkpoint.load`.
        device: as for `TorchEngine`.
        dtype: as for `TorchEngine`.
        runtime: as for `TorchEngine`.
        input_size: as for `TorchEngine`.
        load_options: for `models.checkpoint.load`.

    Raises:
        models.checkpoint.CheckpointError: it cannot be loaded, or its output is not finite.
        OutOfMemory: not even one image fits.
        ValueError: the device does not exist, or the runtime is not installed.
    """
    loaded = checkpoint.load(source, load_options)
    engine = TorchEngine(
        str(source),
        task=loaded.task,
        device=device,
        dtype=dtype,
        input_size=input_size,
        runtime=runtime,
    )
    info = engine.place(loaded)
    image = blank_input(info.task, info.preprocessing)
    height, width = image.pixels.shape[:2]
    start = time.monotonic()
    engine.run([image])
    return Trial(
        name=loaded.name,
        architecture=architecture_of(loaded.network).name,
        info=info,
        stored_dtypes=loaded.stored_dtypes,
        warnings=loaded.warnings,
        input_size=(height, width),
        forward_s=time.monotonic() - start,
    )
