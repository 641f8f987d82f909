"""Loads a checkpoint from files or the Hugging Face Hub, and saves it to a folder.

A loaded network is float32, on the CPU and in eval mode.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import preprocessor_config
from models.checkpoint.config import Configuration, document_of, parse
from models.checkpoint.dialects import Dialect, dialect_of
from models.checkpoint.hub import fetch, is_hub_id
from models.checkpoint.json_files import write_document
from models.checkpoint.layouts import LAYOUTS, SAME
from models.checkpoint.limits import check_input, check_parameters
from models.checkpoint.network import (
    build,
    fill,
    parameters_of,
    parameters_of_transformers,
    with_background,
)
from models.checkpoint.parameter_names import translate
from models.checkpoint.stored import Stored
from models.checkpoint.weights import WEIGHT_SUFFIXES, write_weights
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

    `network(pixels)` maps float32 (B, C, H, W) to logits: (B, num_labels) for the task "classify",
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
    """Return the last part of a path or Hub id, without suffix or revision; reads no files."""
    text = str(source)
    if isinstance(source, str) and is_hub_id(text):
        text = text.partition("@")[0]
    path = Path(os.path.abspath(text))
    return path.stem if path.suffix in WEIGHT_SUFFIXES else path.name


def path_of(source: str | Path) -> Path:
    """Return the folder or file of a checkpoint; a Hub id that is neither is downloaded.

    Raises:
        CheckpointError: the source is none of these, or cannot be downloaded.
    """
    path = Path(source).expanduser()
    if str(source) and (path.is_dir() or path.is_file()):  # "" is not the current folder
        return path
    if isinstance(source, str) and is_hub_id(source):
        return fetch(source)
    raise CheckpointError(
        f"{str(source)!r} is neither an existing folder or file nor a Hub id org/name[@revision]"
    )


def load(source: str | Path, *, arch: str = "") -> Checkpoint:
    """Load a checkpoint strictly: every parameter has a stored tensor of its shape, and vice versa.

    Half precision becomes float32.

    Args:
        source: a folder of transformers or timm, a file of weights of torchvision or timm, or a Hub
            id org/name[@revision]. An existing folder or file takes precedence.
        arch: the name of the architecture in its library, if a file of weights does not tell.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or unsupported.
    """
    stored = Stored(path_of(source))
    dialect = dialect_of(stored)
    config = parse(stored.document if dialect is None else dialect.document(stored, arch))
    preprocessing, assumed = preprocessing_of(stored, config, dialect)
    check_input(config.sizes, preprocessing.input_size or ANY_SIZE)
    with torch.device("meta"):  # no memory for parameters that the stored tensors replace
        network = build(config)
    found = (
        parameters_of_transformers(network, stored.tensors, config.architecture.name)
        if dialect is None
        else parameters_of(network, stored.tensors, dialect)
    )
    check_parameters(network, stored.size)
    fill(network, found)
    labels = config.labels
    if isinstance(network, Segformer) and len(labels) == 1:
        network, labels = with_background(network), ("background", *labels)
    return Checkpoint(
        network=network.eval(),
        labels=labels,
        preprocessing=preprocessing,
        task=config.architecture.task,
        warnings=assumptions(config, preprocessing, assumed=assumed),
        preprocessing_assumed=assumed,
        problem_type=config.problem_type,
        name=name_of(source),
        stored_dtypes=float_dtypes(stored.tensors.values()),
    )


def require_rgb(loaded: Checkpoint) -> None:
    """Raise CheckpointError unless the network takes RGB images, as `to_rgb` gives them."""
    if (channels := loaded.network.config.num_channels) != 3:
        raise CheckpointError(
            f"{loaded.name} takes images of num_channels {channels}; only networks of 3 channels "
            "(RGB) can be served, evaluated or trained"
        )


def float_dtypes(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    """Return the names of the tensors' floating-point formats, sorted."""
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return tuple(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))


def preprocessing_of(
    stored: Stored, config: Configuration, dialect: Dialect | None
) -> tuple[Preprocessing, bool]:
    """Return the preprocessing, and whether it is assumed because no file says it.

    Raises:
        CheckpointError: a file is damaged or specifies unsupported steps.
    """
    if stored.preprocessor is None and dialect is not None:
        return dialect.preprocessing(stored)
    if stored.preprocessor is None and config.sizes.num_channels != 3:
        raise CheckpointError(
            f"there is no preprocessor_config.json, and the defaults are for 3 channels, not for "
            f"num_channels {config.sizes.num_channels}: add a file with image_mean and image_std"
        )
    name, contents = stored.preprocessor or ("", {})
    try:
        found = preprocessor_config.parse(
            contents, PROCESSORS[config.architecture.model_type], config.sizes.num_channels
        )
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    return found, stored.preprocessor is None


def assumptions(
    config: Configuration, preprocessing: Preprocessing, *, assumed: bool
) -> tuple[str, ...]:
    """What a user should know of a checkpoint that loads; one sentence each.

    Args:
        config: of the checkpoint.
        preprocessing: of the checkpoint.
        assumed: whether no file says what it is.
    """
    result = []
    if assumed:
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
    write_weights(folder, LAYOUTS.get(architecture.name, SAME).write(tensors))
    document = preprocessor_config.document(checkpoint.preprocessing)
    write_document(folder / "preprocessor_config.json", document)
