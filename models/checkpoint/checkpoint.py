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
from models.checkpoint.assumptions import assumptions, refusal
from models.checkpoint.config import Configuration, document_of, parse
from models.checkpoint.dialects import Dialect, dialect_of
from models.checkpoint.files import expanded
from models.checkpoint.hub import fetch, is_hub_id
from models.checkpoint.json_files import write_document
from models.checkpoint.labels import labels_in, labels_of
from models.checkpoint.layouts import LAYOUTS, SAME
from models.checkpoint.limits import check_input, check_parameters
from models.checkpoint.network import (
    build,
    fill,
    outputs_of,
    parameters_of,
    parameters_of_transformers,
    with_background,
)
from models.checkpoint.options import DEFAULT_OPTIONS, LoadOptions
from models.checkpoint.parameter_names import translate
from models.checkpoint.stored import Stored
from models.checkpoint.unusual_folders import WEIGHT_SUFFIXES
from models.checkpoint.weights import write_weights
from models.errors import CheckpointError
from models.preprocessing import Preprocessing
from models.registry import Network, ProblemType, Task, architecture_named, architecture_of
from models.segformer import Segformer

BUNDLED: dict[Task, str] = {"classify": "shapes-vit", "segment": "shapes-segformer"}
ANY_SIZE = (512, 512)  # height and width to check if the network's input has the image's size
PROCESSORS = {  # by model type, for folders without a preprocessor_config.json
    "vit": preprocessor_config.VIT,
    "deit": preprocessor_config.DEIT,
    "dinov2": preprocessor_config.BIT,
    "dinov2_with_registers": preprocessor_config.BIT,
    "segformer": preprocessor_config.SEGFORMER,
    "vit_msn": preprocessor_config.VIT,
    "siglip": preprocessor_config.SIGLIP,
    "patchserve_vit": preprocessor_config.VIT,
    "patchserve_vit_segmenter": preprocessor_config.SEGFORMER,
}


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with its labels and its preprocessing.

    `network(pixels)` maps float32 (B, C, H, W) to logits: (B, num_labels) for the task "classify",
    (B, num_labels, h, w) for "segment", where (h, w) is (ceil(H / 4), ceil(W / 4)) for a SegFormer
    and (H, W) for a ViT or a SegFormer with `aligned_upsampling`. `problem_type` says what the
    outputs of a classifier mean: exactly one label applies (softmax), each label applies or not
    (sigmoid), or the outputs are the values (regression). `warnings` says what was assumed, one
    sentence each.
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
    path = expanded(Path(source))
    if str(source) and (path.is_dir() or path.is_file()):  # "" is not the current folder
        return path
    if isinstance(source, str) and is_hub_id(source):
        return fetch(source)
    raise CheckpointError(
        f"{str(source)!r} is neither an existing folder or file nor a Hub id org/name[@revision]"
    )


def load(source: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> Checkpoint:
    """Load a checkpoint: every parameter has a stored tensor of its shape, and vice versa.

    Half precision becomes float32.

    Args:
        source: a folder or a file of weights, of transformers (folders only) or of another library
            (see `dialects`), or a Hub id org/name[@revision]. An existing folder or file takes
            precedence.
        options: what the files do not say, and whether anything may be assumed.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or unsupported, or does not fit the
            options.
    """
    stored = Stored(path_of(source))
    dialect = dialect_of(stored)
    config, of_labels = configuration_of(stored, dialect, options)
    preprocessing, assumed = preprocessing_of(stored, config, dialect, options.arch)
    check_input(config.sizes, preprocessing.input_size or ANY_SIZE)
    network = filled(config, stored, dialect)
    labels = config.labels
    if isinstance(network, Segformer) and len(labels) == 1:
        network, labels = with_background(network), ("background", *labels)
    source_of_defaults = preprocessing.processor if dialect is None else dialect.defaults
    defaults = source_of_defaults if assumed else ""
    warnings = (
        *assumptions(config, preprocessing, defaults=defaults, is_file=stored.is_file),
        *of_labels,
    )
    if options.strict and warnings:
        raise CheckpointError(refusal(name_of(source), warnings))
    return Checkpoint(
        network=network.eval(),
        labels=labels,
        preprocessing=preprocessing,
        task=config.architecture.task,
        warnings=warnings,
        preprocessing_assumed=assumed,
        problem_type=config.problem_type,
        name=name_of(source),
        stored_dtypes=float_dtypes(stored.tensors.values()),
    )


def configuration_of(
    stored: Stored, dialect: Dialect | None, options: LoadOptions
) -> tuple[Configuration, tuple[str, ...]]:
    """Return the configuration with its labels, and what was assumed about the labels.

    Raises:
        CheckpointError: a file is damaged, unsupported, or does not fit the options.
    """
    if options.arch and not stored.is_file:
        raise CheckpointError(
            f"the architecture {options.arch!r} is given, but only for a file of weights: the "
            "config.json of a folder names it; leave it out"
        )
    document = stored.document if dialect is None else dialect.document(stored, options.arch)
    architecture = architecture_named(document.get("architectures"), document.get("model_type"))
    outputs = outputs_of(architecture, stored.tensors, dialect)
    if options.labels_file is not None:
        labels = labels_in(options.labels_file, outputs)
    else:
        folder = stored.path.parent if stored.is_file else stored.path
        labels = labels_of(document, outputs, folder)
    return parse(document, labels.names), labels.warnings


def filled(config: Configuration, stored: Stored, dialect: Dialect | None) -> Network:
    """Return the network with its stored parameters. CheckpointError if they do not fit."""
    with torch.device("meta"):  # no memory for parameters that the stored tensors replace
        network = build(config)
    found = (
        parameters_of_transformers(network, stored.tensors, config.architecture.name)
        if dialect is None
        else parameters_of(network, stored.tensors, dialect)
    )
    check_parameters(network, stored.size)
    fill(network, found)
    return network


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
    stored: Stored, config: Configuration, dialect: Dialect | None, arch: str = ""
) -> tuple[Preprocessing, bool]:
    """Return the preprocessing, and whether it is assumed because no file says it.

    Raises:
        CheckpointError: a file is damaged or specifies unsupported steps.
    """
    channels, default = config.sizes.num_channels, PROCESSORS[config.architecture.model_type]
    if stored.preprocessor is None:
        found, assumed = (
            (preprocessor_config.parse({}, default), True)
            if dialect is None
            else dialect.preprocessing(stored, arch)
        )
        if found.mean is not None and len(found.mean) != channels:
            add = "give a folder with one that has" if stored.is_file else "add a file with"
            raise CheckpointError(
                f"there is no preprocessor_config.json, and the defaults are for {len(found.mean)} "
                f"channels, not for num_channels {channels}: {add} image_mean and image_std"
            )
        return found, assumed
    name, contents = stored.preprocessor
    try:
        return preprocessor_config.parse(contents, default, channels), False
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error


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
