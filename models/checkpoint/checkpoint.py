"""Loads a checkpoint from a folder or the Hugging Face Hub, and saves it to a folder.

A loaded network is float32, on the CPU and in eval mode.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoint import preprocessor_config
from models.checkpoint.config import Configuration, document_of, parse
from models.checkpoint.files import is_present
from models.checkpoint.hub import fetch, is_hub_id
from models.checkpoint.json_files import read_document, write_document
from models.checkpoint.limits import check_input, check_parameters
from models.checkpoint.parameter_names import join_names, match_stored_names, translate
from models.checkpoint.weights import read_files, stored_bytes, weight_files, write_weights
from models.errors import CheckpointError
from models.preprocessing import Preprocessing
from models.registry import Network, ProblemType, Task, architecture_of
from models.segformer import Segformer

BUNDLED: dict[Task, str] = {"classify": "shapes-vit", "segment": "shapes-segformer"}
ANY_SIZE = (512, 512)  # height and width to check if the network's input has the image's size
PROCESSORS = {  # by model type, for folders without a preprocessor_config.json
    "vit": preprocessor_config.VIT,
    "deit": preprocessor_config.DEIT,
    "segformer": preprocessor_config.SEGFORMER,
    "patchserve_vit": preprocessor_config.VIT,
    "patchserve_vit_segmenter": preprocessor_config.SEGFORMER,
}


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with its labels and its preprocessing.

    `network(pixels)` maps float32 (B, 3, H, W) to logits: (B, num_labels) for the task "classify",
    (B, num_labels, h, w) for "segment", where (h, w) is (ceil(H / 4), ceil(W / 4)) for a SegFormer
    and (H, W) for a ViT. `problem_type` says what the outputs of a classifier mean: exactly one
    label applies (softmax), each label applies or not (sigmoid), or the outputs are the values
    (regression). `warnings` says what was assumed, one sentence each.
    """

    network: Network
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    task: Task
    problem_type: ProblemType = "single_label_classification"
    name: str = ""
    warnings: tuple[str, ...] = ()
    preprocessing_assumed: bool = False  # there was no file with it
    stored_dtypes: tuple[str, ...] = ()  # number formats in the files


def bundled(task: Task) -> Path:
    """Return the folder of the small trained checkpoint that patchserve ships for the task."""
    return Path(__file__).parents[1] / "bundled" / BUNDLED[task]


def name_of(source: str | Path) -> str:
    """Return the last part of a folder or Hub id, without the revision; reads neither of them."""
    text = str(source)
    if isinstance(source, str) and is_hub_id(text):
        text = text.partition("@")[0]
    return Path(os.path.abspath(text)).name


def folder_of(source: str | Path) -> Path:
    """Return the folder of a checkpoint, downloading it if `source` is a Hub id and not a folder.

    Raises:
        CheckpointError: the source is neither, or cannot be downloaded.
    """
    path = Path(source).expanduser()
    if str(source) and path.is_dir():  # an empty string is not the current folder
        return path
    if isinstance(source, str) and is_hub_id(source):
        return fetch(source)
    raise CheckpointError(
        f"{str(source)!r} is neither an existing folder nor a Hub id org/name[@revision]"
    )


def load(source: str | Path) -> Checkpoint:
    """Load a checkpoint strictly: every parameter has a stored tensor of its shape, and vice versa.

    Half precision becomes float32.

    Args:
        source: a folder in the Hugging Face layout, or a Hub id org/name[@revision]. An existing
            folder takes precedence.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or unsupported.
    """
    folder = folder_of(source)
    config = parse(read_document(folder / "config.json"))
    preprocessing = preprocessing_of(folder, PROCESSORS[config.architecture.model_type])
    check_input(config.sizes, preprocessing.input_size or ANY_SIZE)
    with torch.device("meta"):  # no memory for parameters that the stored tensors replace
        network = build(config)
    files = weight_files(folder)
    stored = read_files(files)  # mapped files, mostly
    names = stored_names(network, stored, config.architecture.name)
    check_parameters(network, stored_bytes(files))
    fill(network, stored, names)
    labels = config.labels
    if isinstance(network, Segformer) and len(labels) == 1:
        network, labels = with_background(network), ("background", *labels)
    found = preprocessing_document(folder) is not None
    return Checkpoint(
        network=network.eval(),
        labels=labels,
        preprocessing=preprocessing,
        task=config.architecture.task,
        warnings=assumptions(config, preprocessing, found=found),
        preprocessing_assumed=not found,
        problem_type=config.problem_type,
        name=name_of(source),
        stored_dtypes=float_dtypes(stored.values()),
    )


def float_dtypes(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    """Return the names of the tensors' floating-point formats, sorted."""
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return tuple(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))


def build(config: Configuration) -> Network:
    """Build the untrained network. CheckpointError if its layers refuse the configuration."""
    try:
        return config.architecture.network(config.sizes)  # type: ignore[arg-type]  # they match
    except ValueError as error:  # for example an unknown activation
        raise CheckpointError(f"config.json: {error}") from error


def stored_names(
    network: nn.Module, stored: Mapping[str, Tensor], architecture: str
) -> dict[str, str]:
    """Return the name of the stored tensor of each parameter.

    Raises:
        CheckpointError: names or shapes do not match.
    """
    empty = network.state_dict()
    names = match_stored_names(empty, stored, architecture)
    mismatches = [
        f"{theirs} is {list(stored[theirs].shape)}, not {list(empty[ours].shape)}"
        for ours, theirs in names.items()
        if stored[theirs].shape != empty[ours].shape
    ]
    if mismatches:
        raise CheckpointError(f"tensor shapes do not match config.json: {join_names(mismatches)}")
    return names


def fill(network: nn.Module, stored: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Give a network on the meta device float32 copies of the stored tensors.

    Args:
        network: gets the tensors.
        stored: the tensors by their stored names.
        names: the stored names by ours, from `stored_names`.

    Raises:
        CheckpointError: a tensor is quantized.
    """
    state = {}
    for ours, empty in network.state_dict().items():
        value = stored[names[ours]] if ours in names else torch.zeros((), dtype=empty.dtype)
        if empty.is_floating_point() and not value.is_floating_point():
            raise CheckpointError(
                f"{names[ours]} is {value.dtype}: quantized weights are not supported"
            )
        state[ours] = value.to(empty.dtype, copy=True)  # may be mapped to a file that changes
    network.load_state_dict(state, assign=True)


def with_background(network: Segformer) -> Segformer:
    """Turn a segmenter with one label into one with two, where the first one is the background.

    In transformers a pixel has the label if the sigmoid of its logit is above 0.5, that is, if the
    logit is above 0. The largest of two logits says the same if that of the background is 0.
    """
    with torch.device("meta"):
        binary = Segformer(replace(network.config, num_labels=2))
    state = network.state_dict()
    for name in ("decoder.head.weight", "decoder.head.bias"):
        state[name] = torch.cat([torch.zeros_like(state[name]), state[name]])
    binary.load_state_dict(state, assign=True)
    return binary


def preprocessing_document(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """Read the name and the contents of the file with the preprocessing, or None if there is none.

    Raises:
        CheckpointError: a file is damaged.
    """
    document: Any = None
    if is_present(path := folder / "processor_config.json"):
        document = read_document(path).get("image_processor")  # older files do not have it
    if document is None and is_present(path := folder / "preprocessor_config.json"):
        document = read_document(path)
    if not isinstance(document, dict | None):
        raise CheckpointError(f"{path.name}: image_processor is not a JSON object")
    return None if document is None else (path.name, document)


def preprocessing_of(folder: Path, processor: str) -> Preprocessing:
    """Read the folder's preprocessing; `processor` names the defaults for missing values.

    Raises:
        CheckpointError: a file is damaged or specifies unsupported steps.
    """
    name, contents = preprocessing_document(folder) or ("", {})
    try:
        return preprocessor_config.parse(contents, processor)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error


def assumptions(
    config: Configuration, preprocessing: Preprocessing, *, found: bool
) -> tuple[str, ...]:
    """What a user should know of a checkpoint that loads; one sentence each.

    Args:
        config: of the checkpoint.
        preprocessing: of the checkpoint.
        found: whether a file says what it is.
    """
    result = []
    if not found:
        result.append(
            f"there is no preprocessor_config.json: the defaults of {preprocessing.processor} are "
            "assumed, and results are wrong if the network was trained with other preprocessing"
        )
    trained = getattr(config.sizes, "image_size", None)
    if trained is not None and preprocessing.input_size != trained:
        given = preprocessing.input_size
        images = (
            "images keep their size" if given is None else f"images become {given[1]} x {given[0]}"
        )
        result.append(
            f"{images}, but the network was trained for {trained[1]} x {trained[0]}, "
            "so its positions are resampled"
        )
    return tuple(result)


def save(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write the checkpoint as a folder that `load` and transformers read.

    Writes config.json, model.safetensors and preprocessor_config.json, replacing existing files.
    The name and the task are not stored: they follow from the folder and the architecture.

    Raises:
        CheckpointError: the number of labels differs from the number of outputs.
    """
    sizes = checkpoint.network.config
    if len(checkpoint.labels) != sizes.num_labels:
        raise CheckpointError(
            f"{len(checkpoint.labels)} labels for {sizes.num_labels} outputs of the network"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    architecture = architecture_of(checkpoint.network)
    config = Configuration(architecture, sizes, checkpoint.labels, checkpoint.problem_type)
    tensors = {
        translate(name, architecture.name)[0]: tensor
        for name, tensor in checkpoint.network.state_dict().items()
    }
    write_document(folder / "config.json", document_of(config))
    write_weights(folder, tensors)
    document = preprocessor_config.document(checkpoint.preprocessing)
    write_document(folder / "preprocessor_config.json", document)
