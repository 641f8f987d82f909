"""Untrained networks by their common names, with options, and their preprocessing."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from models.checkpoint.preprocessor_config import DEIT, SEGFORMER, VIT
from models.preprocessing import HALF, IMAGENET_MEAN, IMAGENET_STD, NEAREST, Preprocessing
from models.registry import Network, Sizes, Task, segformer_config, vit_config
from models.segformer import MIN_SIDE, Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

NAMES = "vit-{ti,s,b,l,h}/PATCH, deit-{ti,s,b}/PATCH, vit-segmenter, segformer-b0..b5, mit-b0..b5"
FAMILY = re.compile(
    r"(?P<family>vit|deit)-(?P<size>ti|s|b|l|h)(?P<patch>/\d+)|vit-segmenter"
    r"|(?P<mit>segformer|mit)-(?P<number>b\d)"
)
SIDES = {"vit": 224, "deit": 224, "mit": 224, "segformer": 512, "vit-segmenter": 128}
SET_ELSEWHERE = ("image_size", "num_labels", "num_channels")  # not options: images are RGB


def task_of(name: str) -> Task:
    """Return the task of the network; ValueError for an unknown name."""
    return "segment" if family_of(name) in ("segformer", "vit-segmenter") else "classify"


def network_named(
    name: str,
    *,
    num_labels: int,
    image_size: int | None = None,
    options: Mapping[str, str] | None = None,
) -> Network:
    """Return the untrained network of a name, e.g. "vit-ti/16" or "segformer-b0"; see NAMES.

    Args:
        name: the name.
        num_labels: the number of labels.
        image_size: the side of the images in pixels; None for the usual size.
        options: fields of the config as text, e.g. {"positions": "sinusoidal_2d"}.

    Raises:
        ValueError: an unknown name or option, or sizes that do not fit.
    """
    family, side = family_of(name), image_size or side_of(name)
    changes: dict[str, Any] = {"num_labels": num_labels}
    if family in ("mit", "segformer"):
        changes |= parsed(options or {}, SegformerConfig)
        config = segformer_config(name.rpartition("-")[2].upper(), **changes)
        check_side(config, side)
        return Segformer(config) if family == "segformer" else SegformerClassifier(config)
    changes["image_size"] = (side, side)
    network: ViT | ViTSegmenter
    if family == "vit-segmenter":
        changes |= parsed(options or {}, ViTSegmenterConfig)
        network = ViTSegmenter(ViTSegmenterConfig(**changes))
    else:
        if family == "deit":
            changes |= {"distillation_token": True, "distillation_head": True}
        changes |= parsed(options or {}, ViTConfig)
        size, _, patch = name.partition("-")[2].partition("/")
        network = ViT(vit_config(f"{size.capitalize()}/{patch}", **changes))
    check_side(network.config, side)
    return network


def preprocessing_for(name: str, image_size: int | None, *, as_is: bool) -> Preprocessing:
    """Return the usual preprocessing of the network: image size, mean and standard deviation.

    A ViT segmenter starts with a BatchNorm, so that its pixels are only rescaled. With `as_is`,
    pixels are only rescaled too, and images are resized by nearest pixels.
    """
    family, side = family_of(name), image_size or side_of(name)
    processor = {"vit": VIT, "deit": DEIT}.get(family, SEGFORMER)
    if as_is:
        return Preprocessing(processor, (side, side), resample=NEAREST, mean=None, std=None)
    if family == "vit-segmenter":
        return Preprocessing(processor, (side, side), mean=None, std=None)
    if family in ("mit", "segformer"):
        return Preprocessing(processor, (side, side), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return Preprocessing(processor, (side, side), mean=HALF, std=HALF)


def check_side(sizes: Sizes, side: int) -> None:
    """Raise ValueError for a side that is too small or not a multiple of the patch size."""
    if isinstance(sizes, SegformerConfig):
        if side < MIN_SIDE:
            raise ValueError(f"an image size of {side} is too small: at least {MIN_SIDE}")
    elif side % sizes.patch_size:
        raise ValueError(
            f"an image size of {side} is not a multiple of the patch size {sizes.patch_size}"
        )


def family_of(name: str) -> str:
    """Return vit, deit, vit-segmenter, segformer or mit; ValueError for an unknown name."""
    match = FAMILY.fullmatch(name)
    if match is None:
        raise ValueError(f"no network is called {name!r}; the networks are {NAMES}")
    return match["family"] or match["mit"] or name


def side_of(name: str) -> int:
    """Return the usual side of the images in pixels."""
    return SIDES[family_of(name)]


def parsed(options: Mapping[str, str], config: type[Sizes]) -> dict[str, Any]:
    """Return the options as values of the config's fields; ValueError for an invalid option."""
    defaults = {f.name: f.default for f in fields(config) if f.name not in SET_ELSEWHERE}
    for name in options:
        if name not in defaults:
            raise ValueError(f"no option is called {name!r}; the options are {', '.join(defaults)}")
    return {name: value(name, text, defaults[name]) for name, text in options.items()}


def value(name: str, text: str, default: object) -> Any:
    """Return the text as a value of the default's type; tuples are written 1,2,3."""
    try:
        match default:
            case bool():
                return {"true": True, "false": False}[text.lower()]
            case int() | None:
                return int(text)
            case float():
                return float(text)
            case tuple():
                return tuple(int(part) for part in text.split(","))
    except (ValueError, KeyError):
        expected = "an integer" if default is None else f"a value like {default!r}"
        raise ValueError(f"option {name}={text} is not {expected}") from None
    return text
