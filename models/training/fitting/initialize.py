"""The network at the start of a run: untrained, or with weights from a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.checkpoint import Checkpoint, load, name_of, path_of, require_rgb
from models.checkpoint.checkpoint import preprocessing_of
from models.checkpoint.config import parse
from models.checkpoint.network import build, fill, parameters_of_transformers
from models.checkpoint.parameter_names import HEAD_NAMES, translate
from models.checkpoint.stored import Stored
from models.layers.attention import Attention
from models.layers.heads import MLPHead
from models.layers.positions import resample
from models.preprocessing import Preprocessing
from models.registry import Network, Sizes, Task, architecture_named
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.training.fitting.networks import (
    check_side,
    network_named,
    preprocessing_for,
    task_of,
)
from models.training.fitting.objective import Learner
from models.vit import ViT, ViTConfig

HEADS = ("head", "distillation_head", "decoder.head")  # replaced if the labels differ


@dataclass(frozen=True)
class Start:
    """A network to train, and its preprocessing.

    `fresh` names the parameters that come from no checkpoint; None means all.
    """

    network: Network
    preprocessing: Preprocessing
    fresh: frozenset[str] | None
    about: str  # the origin of the weights, for the model card


def from_scratch(
    name: str,
    task: Task,
    labels: tuple[str, ...],
    *,
    image_size: int | None,
    options: Mapping[str, str],
    as_is: bool,
) -> Start:
    """Return the untrained network of that name; ValueError if its task is not the data's."""
    if task_of(name) != task:
        raise ValueError(f"the task of {name} is {task_of(name)}, the task of the data {task}")
    network = network_named(name, num_labels=len(labels), image_size=image_size, options=options)
    preprocessing = preprocessing_for(name, image_size, as_is=as_is)
    chosen = "".join(f", {key} {value}" for key, value in options.items())
    return Start(network, preprocessing, None, f"{name}{chosen}, from random weights")


def from_checkpoint(
    checkpoint: Checkpoint, task: Task, labels: tuple[str, ...], *, image_size: int | None
) -> Start:
    """Return the checkpoint's network with a new head, or with its head if the labels are equal.

    Positions are resampled for another image size. The encoder of a SegFormer can start a network
    of the other task, with a new decoder or head.

    Raises:
        CheckpointError: the network does not take RGB images.
        ValueError: any other network of the other task, or an image size that does not fit.
    """
    require_rgb(checkpoint)
    old = checkpoint.network
    kind: type[Network] = type(old)
    if checkpoint.task != task:
        if not isinstance(old, Segformer | SegformerClassifier):
            raise ValueError(
                f"the task of {checkpoint.name} is {checkpoint.task}, the task of the data {task}"
            )
        kind = SegformerClassifier if isinstance(old, Segformer) else Segformer
    preprocessing = one_size(checkpoint.preprocessing, image_size)
    sizes = resized(old.config, image_size, len(labels))
    network: Network = kind(sizes)
    same = kind is type(old) and labels == checkpoint.labels
    fresh = copy_weights(old, network, keep_head=same)
    about = f"{checkpoint.name}, " + ("trained further" if same else "with a new head")
    return Start(network, preprocessing, fresh, about)


def one_size(preprocessing: Preprocessing, image_size: int | None) -> Preprocessing:
    """Return the preprocessing with a fixed size: the given, its own, or the shortest edge."""
    if image_size is None and preprocessing.input_size is not None:
        return replace(preprocessing, reduce_labels=False)
    side = image_size or preprocessing.shortest_edge
    if side is None:
        raise ValueError("the checkpoint has no image size; --image-size is required")
    return replace(
        preprocessing,
        size=(side, side),
        shortest_edge=None,
        longest_edge=None,
        crop_size=None,
        reduce_labels=False,
    )


def resized(sizes: Sizes, image_size: int | None, num_labels: int) -> Any:
    """Return the config with another number of labels and, if given, another image size."""
    if image_size is not None:
        check_side(sizes, image_size)
    if isinstance(sizes, SegformerConfig) or image_size is None:
        return replace(sizes, num_labels=num_labels)
    return replace(sizes, num_labels=num_labels, image_size=(image_size, image_size))


@torch.no_grad()
def copy_weights(old: Network, new: Network, *, keep_head: bool) -> frozenset[str]:
    """Copy the common weights of `old` into `new`; return the names of the other parameters.

    The last layer of a new head is zero, as in ViT's fine-tuning (arXiv:2010.11929, section 3.2),
    so that all labels are equally likely at first.
    """
    state, stored = new.state_dict(), old.state_dict()
    copied = {}
    for name in state:
        if name in stored and (keep_head or not name.startswith(tuple(f"{h}." for h in HEADS))):
            copied[name] = converted(name, stored[name], old, new)
    new.load_state_dict(state | copied)
    for name, module in new.named_modules():
        if name in HEADS and not keep_head:
            last = module.output if isinstance(module, MLPHead) else module
            for parameter in last.parameters(recurse=False):
                nn.init.zeros_(parameter)
    return frozenset(name for name, _ in new.named_parameters() if name not in copied)


def converted(name: str, tensor: Tensor, old: Network, new: Network) -> Tensor:
    """Return the tensor for the new network: positions are resampled to its grid."""
    if isinstance(new.config, SegformerConfig) or isinstance(old.config, SegformerConfig):
        return tensor
    rows, columns = new.config.grid
    if name == "positions":
        sizes, C, antialias = new.config, 0, False
        if isinstance(sizes, ViTConfig):
            C, antialias = sizes.num_class_tokens, sizes.antialias
        prefix, patches = tensor.tensor_split([C], dim=1)
        patches = resample(patches, old.config.grid, (rows, columns), antialias=antialias)
        return torch.cat([prefix, patches], dim=1)
    if name == "relative_bias.table" and old.config.grid != new.config.grid:
        size = (2 * rows - 1, 2 * columns - 1)
        return interpolate(tensor[None], size, mode="bicubic", align_corners=False)[0]
    return tensor


def initialize_small(learner: Learner) -> None:
    """Initialize the weights of a small network that is trained for minutes.

    Weights keep the signal's variance: the standard deviation of 0.02 in the papers is for wide
    networks. Heads start near zero, so that all labels are about equally likely.
    """
    for name, module in learner.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            head = name.endswith("head")
            std = 0.01 if head else prod(module.weight.shape[1:]) ** -0.5
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
    if isinstance(learner.network, ViT):
        attend_nearby(learner.network)


def attend_nearby(network: ViT) -> None:
    """Start with tokens that encode their place and attend to similar tokens.

    A small ViT spends most of a short training on learning which patches are adjacent. The
    positions, which are learned nevertheless, start as sines of row and column, and the keys equal
    the queries, so that similar tokens attend to each other (mimetic initialization,
    arXiv:2305.09828).
    """
    D, (rows, columns) = network.config.hidden_size, network.config.grid
    pace = 1.2 * 10 ** -torch.linspace(0, 1, D // 4)  # radians per patch
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = torch.cat([x.reshape(-1, 1) * pace, y.reshape(-1, 1) * pace], dim=1)  # (N, D / 2)
    with torch.no_grad():
        network.positions[0, network.config.num_class_tokens :] = torch.cat(
            [angles.sin(), angles.cos()], dim=1
        )  # (N, D)
        for attention in network.modules():
            if isinstance(attention, Attention):
                nn.init.orthogonal_(attention.query.weight, gain=0.8)
                attention.key.weight.copy_(attention.query.weight)


# a network without a head, by its name in config.json: the architecture with a head, and the prefix
BODIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ViTModel": ("ViTForImageClassification", "vit."),
        "DeiTModel": ("DeiTForImageClassification", "deit."),
        "ViTMSNModel": ("ViTMSNForImageClassification", "vit."),
        "SiglipModel": ("SiglipForImageClassification", ""),
        "SiglipVisionModel": ("SiglipForImageClassification", "vision_model."),
        "Dinov2Model": ("Dinov2ForImageClassification", "dinov2."),
        "Dinov2WithRegistersModel": (
            "Dinov2WithRegistersForImageClassification",
            "dinov2_with_registers.",
        ),
        "SegformerModel": ("SegformerForImageClassification", "segformer."),
    }
)


def load_body(source: str | Path) -> Checkpoint:
    """Load a checkpoint as `checkpoint.load` does, or one without a head.

    The latter gets a random head, which the caller replaces.

    Raises:
        CheckpointError: as `checkpoint.load`.
    """
    stored = Stored(path_of(source))
    names = stored.document.get("architectures")
    body = names[0] if isinstance(names, list) and names else None
    if not isinstance(body, str) or body not in BODIES:
        return load(source)
    whole, prefix = BODIES[body]
    config = parse(document_with_head(stored.document, whole))
    network = build(config)
    tensors = dict(stored.tensors)
    if not any(key.startswith(prefix) for key in tensors):  # SiglipVisionModel may have it
        tensors = {f"{prefix}{key}": tensor for key, tensor in tensors.items()}
    for name, tensor in network.state_dict().items():
        if HEAD_NAMES.fullmatch(name):
            tensors[translate(name, whole)[0]] = tensor
    fill(network, parameters_of_transformers(network, tensors, whole))
    preprocessing, _ = preprocessing_of(stored, config, None)
    return Checkpoint(
        network=network.eval(),
        labels=config.labels,
        preprocessing=preprocessing,
        task=config.architecture.task,
        name=name_of(source),
    )


def document_with_head(document: Mapping[str, Any], whole: str) -> Mapping[str, Any]:
    """Return the config.json of the architecture with a head, for the config.json of its body.

    The config.json of a vision model alone has the sizes that otherwise are in a section.
    """
    section = architecture_named([whole], None).section
    if section is not None and section.name not in document:
        return {"architectures": [whole], section.name: document}
    return {**document, "architectures": [whole]}
