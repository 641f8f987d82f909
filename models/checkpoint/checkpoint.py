"""A checkpoint, from a folder or the hub to a network ready to run, and back to a folder.

Knows nothing of images, batches or devices: what it loads is float32, on the CPU, in eval mode.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoint import preprocessor_config
from models.checkpoint.config import Configuration, document_of, parse
from models.checkpoint.hub import fetch, is_hub_id
from models.checkpoint.json_files import read_document, write_document
from models.checkpoint.parameter_names import listing, locate, translate
from models.checkpoint.weights import read_weights, write_weights
from models.errors import CheckpointError
from models.preprocessing import Preprocessing
from models.registry import Network, Task, architecture_of

__all__ = ["Checkpoint", "CheckpointError", "bundled", "load", "name_of", "save"]

BUNDLED: dict[Task, str] = {"classify": "shapes-vit", "segment": "shapes-segformer"}
PROCESSORS = {  # by model type, for folders that have no preprocessor_config.json
    "vit": preprocessor_config.VIT,
    "deit": preprocessor_config.DEIT,
    "segformer": preprocessor_config.SEGFORMER,
    "patchserve_vit": preprocessor_config.VIT,
    "patchserve_vit_segmenter": preprocessor_config.SEGFORMER,
}


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, what its outputs are called, and what it asks of an image.

    `network(pixels)` maps float32 (B, 3, H, W) to logits: (B, num_labels) for the task "classify",
    (B, num_labels, h, w) for "segment", where h and w are a SegFormer's ceil(H / 4), ceil(W / 4) or
    a ViT's H and W. With `multi_label` each label is true or false by itself (sigmoid); otherwise
    one of them is (softmax).
    """

    network: Network
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    task: Task
    multi_label: bool = False
    name: str = ""


def bundled(task: Task) -> Path:
    """The folder of the small trained checkpoint that ships for the task."""
    return Path(__file__).parents[1] / "bundled" / BUNDLED[task]


def name_of(source: str | Path) -> str:
    """The last part of a folder or hub id, without the revision; looks at neither."""
    text = str(source)
    if isinstance(source, str) and is_hub_id(text):
        text = text.partition("@")[0]
    return Path(os.path.abspath(text)).name


def load(source: str | Path) -> Checkpoint:
    """Load a Hugging Face folder, or a hub id org/name[@revision], strictly.

    Every tensor has its place and its shape, and every parameter its tensor, or CheckpointError
    says which has not. Half precision becomes float32. A folder goes before a hub id.
    """
    folder = folder_of(source)
    config = parse(read_document(folder / "config.json"))
    with torch.device("meta"):  # shapes without memory, until the tensors come
        network = build(config)
    fill(network, read_weights(folder), config.architecture.name)
    return Checkpoint(
        network=network.eval(),
        labels=config.labels,
        preprocessing=preprocessing_of(folder, PROCESSORS[config.architecture.model_type]),
        task=config.architecture.task,
        multi_label=config.multi_label,
        name=name_of(source),
    )


def save(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write the checkpoint as a folder that `load` and transformers read.

    Creates config.json, model.safetensors and preprocessor_config.json, replacing what is there;
    the name and the task are not stored: they follow from the folder and the architecture.
    CheckpointError when there are not as many labels as the network has outputs.
    """
    sizes = checkpoint.network.config
    if len(checkpoint.labels) != sizes.num_labels:
        raise CheckpointError(f"{len(checkpoint.labels)} labels for {sizes.num_labels} outputs")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    architecture = architecture_of(checkpoint.network)
    config = Configuration(architecture, sizes, checkpoint.labels, checkpoint.multi_label)
    tensors = {
        translate(name, architecture.name)[0]: tensor
        for name, tensor in checkpoint.network.state_dict().items()
    }
    write_document(folder / "config.json", document_of(config))
    write_weights(folder, tensors)
    document = preprocessor_config.document(checkpoint.preprocessing)
    write_document(folder / "preprocessor_config.json", document)


def folder_of(source: str | Path) -> Path:
    """The folder itself, or the one that the hub's files were put into."""
    path = Path(source).expanduser()
    if str(source) and path.is_dir():  # an empty text is not the current folder
        return path
    if isinstance(source, str) and is_hub_id(source):
        return fetch(source)
    raise CheckpointError(f"{str(source)!r} is neither a folder nor a hub id org/name[@revision]")


def build(config: Configuration) -> Network:
    """The network of that configuration, untrained."""
    try:
        return config.architecture.network(config.sizes)  # type: ignore[arg-type]  # they fit
    except ValueError as error:  # an unknown activation
        raise CheckpointError(f"config.json: {error}") from error


def fill(network: nn.Module, stored: Mapping[str, Tensor], architecture: str) -> None:
    """Give the network, whose parameters have shapes only, the stored tensors as float32 copies."""
    empty = network.state_dict()
    names = locate(empty, stored, architecture)
    misfits = [
        f"{names[ours]} is {list(stored[names[ours]].shape)}, not {list(tensor.shape)}"
        for ours, tensor in empty.items()
        if ours in names and stored[names[ours]].shape != tensor.shape
    ]
    if misfits:
        raise CheckpointError(f"shapes do not fit the config.json: {listing(misfits)}")
    state = {}
    for ours, tensor in empty.items():
        value = stored[names[ours]] if ours in names else torch.zeros((), dtype=tensor.dtype)
        if tensor.is_floating_point() and not value.is_floating_point():
            raise CheckpointError(f"{names[ours]} is {value.dtype}: quantised weights do not fit")
        state[ours] = value.to(tensor.dtype, copy=True)  # the file may change or go; the copy stays
    network.load_state_dict(state, assign=True)


def preprocessing_of(folder: Path, processor: str) -> Preprocessing:
    """What the folder says of preprocessing; the processor's defaults where it says nothing."""
    document: Any = None
    if (path := folder / "processor_config.json").is_file():
        document = read_document(path).get("image_processor")  # absent from older documents
    if document is None and (path := folder / "preprocessor_config.json").is_file():
        document = read_document(path)
    if not isinstance(document, dict | None):
        raise CheckpointError(f"{path.name}: image_processor is no object")
    try:
        return preprocessor_config.parse(document or {}, processor)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from error
