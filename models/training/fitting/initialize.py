"""Where a run starts: an untrained network, or one that takes what fits from a checkpoint.

Does not know data or how the run goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.checkpoint import Checkpoint, folder_of, load, name_of
from models.checkpoint.checkpoint import PROCESSORS, build, fill, preprocessing_of
from models.checkpoint.config import parse
from models.checkpoint.json_files import read_document
from models.checkpoint.parameter_names import HEAD_NAMES, translate
from models.checkpoint.weights import read_weights
from models.layers.attention import Attention
from models.layers.heads import MLPHead
from models.layers.positions import resample
from models.preprocessing import Preprocessing
from models.registry import Network, Sizes, Task
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.training.fitting.networks import (
    network_named,
    preprocessing_for,
    refuse_side,
    task_of,
)
from models.training.fitting.objective import Learner
from models.vit import ViT, ViTConfig

HEADS = ("head", "distillation_head", "decoder.head")  # what is replaced for other labels


@dataclass(frozen=True)
class Start:
    """A network to be trained, and what it asks of a picture.

    `fresh` are the parameters that come from no checkpoint; None are all.
    """

    network: Network
    preprocessing: Preprocessing
    fresh: frozenset[str] | None
    about: str  # what it is, for the model card


def from_nothing(
    name: str,
    task: Task,
    labels: tuple[str, ...],
    *,
    image_size: int | None,
    options: Mapping[str, str],
    as_is: bool,
) -> Start:
    """The untrained network of that name; ValueError for one of the other task."""
    if task_of(name) != task:
        raise ValueError(f"{name} is to {task_of(name)}, the data to {task}")
    network = network_named(name, num_labels=len(labels), image_size=image_size, options=options)
    preprocessing = preprocessing_for(name, image_size, as_is=as_is)
    chosen = "".join(f", {key} {value}" for key, value in options.items())
    return Start(network, preprocessing, None, f"{name}{chosen}, from random weights")


def from_checkpoint(
    checkpoint: Checkpoint, task: Task, labels: tuple[str, ...], *, image_size: int | None
) -> Start:
    """The checkpoint's network with a head for these labels; for its own labels, with its head.

    Positions are resampled for another image size. A SegFormer's encoder goes on to the other
    task, with a new decoder or head; ValueError for any other network of the other task.
    """
    old = checkpoint.network
    kind: type[Network] = type(old)
    if checkpoint.task != task:
        if not isinstance(old, Segformer | SegformerClassifier):
            raise ValueError(f"{checkpoint.name} is to {checkpoint.task}, the data to {task}")
        kind = SegformerClassifier if isinstance(old, Segformer) else Segformer
    preprocessing = one_size(checkpoint.preprocessing, image_size)
    sizes = resized(old.config, image_size, len(labels))
    network: Network = kind(sizes)
    same = kind is type(old) and labels == checkpoint.labels
    fresh = carry_over(old, network, keep_head=same)
    about = f"{checkpoint.name}, " + ("trained further" if same else "with a new head")
    return Start(network, preprocessing, fresh, about)


def one_size(preprocessing: Preprocessing, image_size: int | None) -> Preprocessing:
    """The same steps to one size for all pictures: the given, its own, or the shortest edge's."""
    if image_size is None and preprocessing.input_size is not None:
        return replace(preprocessing, reduce_labels=False)
    side = image_size or preprocessing.shortest_edge
    if side is None:
        raise ValueError("the checkpoint asks for no image size: say one")
    return replace(
        preprocessing,
        size=(side, side),
        shortest_edge=None,
        longest_edge=None,
        crop_size=None,
        reduce_labels=False,
    )


def resized(sizes: Sizes, image_size: int | None, num_labels: int) -> Any:
    """The same config for so many labels and another image size."""
    if image_size is not None:
        refuse_side(sizes, image_size)
    if isinstance(sizes, SegformerConfig) or image_size is None:
        return replace(sizes, num_labels=num_labels)
    return replace(sizes, num_labels=num_labels, image_size=(image_size, image_size))


@torch.no_grad()
def carry_over(old: Network, new: Network, *, keep_head: bool) -> frozenset[str]:
    """Copy into `new` what it has in common with `old`; the names of the parameters it has not.

    A new head ends in zeros, as ViT's at its fine-tuning (arXiv:2010.11929, section 3.2): at first
    no label is likelier than another.
    """
    state, stored = new.state_dict(), old.state_dict()
    taken = {}
    for name in state:
        if name in stored and (keep_head or not name.startswith(tuple(f"{h}." for h in HEADS))):
            taken[name] = carried(name, stored[name], old, new)
    new.load_state_dict(state | taken)
    for name, module in new.named_modules():
        if name in HEADS and not keep_head:
            last = module.output if isinstance(module, MLPHead) else module
            for parameter in last.parameters(recurse=False):
                nn.init.zeros_(parameter)
    return frozenset(name for name, _ in new.named_parameters() if name not in taken)


def carried(name: str, tensor: Tensor, old: Network, new: Network) -> Tensor:
    """The tensor as the new network has it: positions for its grid, all else unchanged."""
    if isinstance(new.config, SegformerConfig) or isinstance(old.config, SegformerConfig):
        return tensor
    rows, columns = new.config.grid
    if name == "positions":
        K = new.config.num_prefix_tokens if isinstance(new.config, ViTConfig) else 0
        prefix, patches = tensor.tensor_split([K], dim=1)
        return torch.cat([prefix, resample(patches, old.config.grid, (rows, columns))], dim=1)
    if name == "relative_bias.table" and old.config.grid != new.config.grid:
        size = (2 * rows - 1, 2 * columns - 1)
        return interpolate(tensor[None], size, mode="bicubic", align_corners=False)[0]
    return tensor


def initialize_small(learner: Learner) -> None:
    """Initialise the weights of a small network that is trained for minutes.

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
        network.positions[0, network.config.num_prefix_tokens :] = torch.cat(
            [angles.sin(), angles.cos()], dim=1
        )  # (N, D)
        for attention in network.modules():
            if isinstance(attention, Attention):
                nn.init.orthogonal_(attention.query.weight, gain=0.8)
                attention.key.weight.copy_(attention.query.weight)


# a body's name in config.json: the architecture it is the body of, and where it lies in that
BODIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ViTModel": ("ViTForImageClassification", "vit."),
        "DeiTModel": ("DeiTForImageClassification", "deit."),
        "SegformerModel": ("SegformerForImageClassification", "segformer."),
    }
)


def load_body(source: str | Path) -> Checkpoint:
    """The checkpoint of a folder or hub id, as `checkpoint.load`; to a bare body, add a new head.

    The head is random: it is there to be replaced. CheckpointError as `checkpoint.load`.
    """
    folder = folder_of(source)
    document = read_document(folder / "config.json")
    names = document.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or name not in BODIES:
        return load(source)
    whole, prefix = BODIES[name]
    config = parse({**document, "architectures": [whole]})
    network = build(config)
    stored = {f"{prefix}{key}": tensor for key, tensor in read_weights(folder).items()}
    for ours, tensor in network.state_dict().items():
        if HEAD_NAMES.fullmatch(ours):
            stored[translate(ours, whole)[0]] = tensor
    fill(network, stored, whole)
    processor = PROCESSORS[config.architecture.model_type]
    return Checkpoint(
        network=network.eval(),
        labels=config.labels,
        preprocessing=preprocessing_of(folder, processor),
        task=config.architecture.task,
        name=name_of(source),
    )
