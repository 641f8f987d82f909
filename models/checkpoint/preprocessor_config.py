"""The contents of preprocessor_config.json, read in all historical styles, and written."""

import re
import sys
from collections.abc import Mapping
from reprlib import repr as shown  # of limited length and depth
from typing import Any, Literal

from models.errors import CheckpointError
from models.preprocessing import (
    BICUBIC,
    BILINEAR,
    HALF,
    HAMMING,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Color,
    Preprocessing,
    Size,
)

Config = Mapping[str, Any]

MAX_SIDE = 2**12  # pixels of a side of the network's input

VIT, DEIT, SEGFORMER = "ViTImageProcessor", "DeiTImageProcessor", "SegformerImageProcessor"
BIT, CLIP = "BitImageProcessor", "CLIPImageProcessor"
BEIT, SIGLIP = "BeitImageProcessor", "SiglipImageProcessor"
COMMON = {  # defaults of all image processors, if they have no others
    "do_resize": True,
    "default_to_square": True,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_pad": False,
    "do_reduce_labels": False,
    "use_square_size": False,  # of CLIP's
    "crop_rounding": "down",  # of patchserve; transformers ignores it
}
CLIP_MEAN: Color = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Color = (0.26862954, 0.26130258, 0.27577711)
SQUARE = {"height": 224, "width": 224}
OF_CLIP = {
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "resample": BICUBIC,
    "do_center_crop": True,
    "crop_size": SQUARE,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}
DEFAULTS: dict[str, dict[str, Any]] = {  # by image processor
    VIT: COMMON | {"size": 224, "resample": BILINEAR, "image_mean": HALF, "image_std": HALF},
    DEIT: COMMON
    | {"size": 256, "resample": BICUBIC, "image_mean": HALF, "image_std": HALF}
    | {"do_center_crop": True, "crop_size": 224},
    SEGFORMER: COMMON
    | {"size": 512, "resample": BILINEAR}
    | {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
    BIT: COMMON | OF_CLIP,
    CLIP: COMMON | OF_CLIP,
    BEIT: COMMON
    | {"size": SQUARE, "crop_size": SQUARE, "resample": BICUBIC}
    | {"image_mean": HALF, "image_std": HALF},
    SIGLIP: COMMON
    | {"size": SQUARE, "default_to_square": False, "resample": BICUBIC}
    | {"image_mean": HALF, "image_std": HALF},
}
PROCESSOR_NAMES = re.compile(
    r"(ViT|DeiT|Segformer|Bit|CLIP|Beit|Siglip)(FeatureExtractor|ImageProcessor(Fast|Pil)?)"
)


def parse(config: Config, default: str, channels: int = 3) -> Preprocessing:
    """Read a Preprocessing from the contents of preprocessor_config.json.

    Args:
        config: the contents. Missing values have the defaults of the image processor; a step whose
            flag is null is left out, as in transformers.
        default: the image processor, a key of DEFAULTS, if the contents do not name one.
        channels: the number of channels of the network's input.

    Raises:
        CheckpointError: the image processor is unknown, or a value is invalid.
    """
    processor = processor_of(config, default)
    options = DEFAULTS[processor] | dict(config)
    if flag(options, "do_pad"):
        raise CheckpointError("do_pad is true, but padding is not supported")
    if flag(options, "use_square_size"):
        raise CheckpointError("use_square_size is true: write the size as height and width instead")
    crops = flag(options, "do_center_crop") and processor != SEGFORMER  # the reference never crops
    resizes, normalizes = flag(options, "do_resize"), flag(options, "do_normalize")
    if options["resample"] is None and not resizes:
        options["resample"] = DEFAULTS[processor]["resample"]  # no step uses it
    reduce_labels = "reduce_labels" if "reduce_labels" in options else "do_reduce_labels"
    preprocessing = Preprocessing(
        processor=processor,
        **(resize_fields(options) if resizes else {"size": None}),
        resample=resample_filter(options["resample"]),
        crop_size=exact_size(options.get("crop_size"), "crop_size") if crops else None,
        crop_rounding=crop_rounding(options),
        rescale_factor=rescale_factor(options) if flag(options, "do_rescale") else None,
        mean=color(options, "image_mean", channels) if normalizes else None,
        std=color(options, "image_std", channels) if normalizes else None,
        reduce_labels=flag(options, reduce_labels),
    )
    refuse_large(preprocessing)
    return preprocessing


def refuse_large(preprocessing: Preprocessing) -> None:
    """Raise CheckpointError for a side of more than MAX_SIDE pixels."""
    sides = {
        "size": max(preprocessing.size or (0,)),
        "size.shortest_edge": preprocessing.shortest_edge or 0,
        "crop_size": max(preprocessing.crop_size or (0,)),
    }
    for name, side in sides.items():
        if side > MAX_SIDE:
            raise CheckpointError(f"{name} is {shown(side)}, but at most {MAX_SIDE} is supported")


def document(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the contents of preprocessor_config.json in the current style; inverse of `parse`."""
    p = preprocessing
    result: dict[str, Any] = {"image_processor_type": p.processor, "do_resize": False}
    if p.size is not None:
        result |= {"do_resize": True, "size": {"height": p.size[0], "width": p.size[1]}}
    elif p.shortest_edge is not None:
        longest = {} if p.longest_edge is None else {"longest_edge": p.longest_edge}
        result |= {"do_resize": True, "size": {"shortest_edge": p.shortest_edge} | longest}
    result |= {"resample": p.resample, "do_center_crop": p.crop_size is not None}
    if p.crop_size is not None:
        result["crop_size"] = {"height": p.crop_size[0], "width": p.crop_size[1]}
    if p.crop_rounding != "down":
        result["crop_rounding"] = p.crop_rounding
    result["do_rescale"] = p.rescale_factor is not None
    if p.rescale_factor is not None:
        result["rescale_factor"] = p.rescale_factor
    result["do_normalize"] = p.mean is not None
    if p.mean is not None and p.std is not None:
        result |= {"image_mean": list(p.mean), "image_std": list(p.std)}
    return result | ({"do_reduce_labels": True} if p.reduce_labels else {})


def processor_of(config: Config, default: str) -> str:
    """Return the current name of the image processor. CheckpointError for an unknown name."""
    name = config.get("image_processor_type") or config.get("feature_extractor_type") or default
    if not isinstance(name, str) or not (match := PROCESSOR_NAMES.fullmatch(name)):
        known = isinstance(name, str) and name.startswith("ConvNext")
        reason = ", because it crops by crop_pct" if known else ""
        raise CheckpointError(
            f"the image processor {shown(name)} is not supported{reason}; "
            f"supported: {', '.join(DEFAULTS)}"
        )
    return f"{match[1]}ImageProcessor"


def resize_fields(options: Config) -> dict[str, Any]:
    """Return the fields of Preprocessing that `size` determines."""
    size = options["size"]
    if is_edge(size) and not flag(options, "default_to_square"):
        size = {"shortest_edge": size}
    if not isinstance(size, dict) or "shortest_edge" not in size:
        return {"size": exact_size(size, "size")}
    if not size.keys() <= {"shortest_edge", "longest_edge"} or not all(map(is_edge, size.values())):
        raise CheckpointError(
            f"size is {shown(size)}; "
            "with shortest_edge only longest_edge is allowed, in whole pixels"
        )
    return {"size": None} | size


def exact_size(value: object, name: str) -> Size:
    """Return (height, width) from n, [h, w] or {"height": h, "width": w}."""
    if is_edge(value):
        value = (value, value)
    elif isinstance(value, dict) and value.keys() == {"height", "width"}:
        value = (value["height"], value["width"])
    match value:
        case (int() as height, int() as width) if is_edge(height) and is_edge(width):
            return height, width
    raise CheckpointError(
        f'{name} is {shown(value)}, not n, [h, w] or {{"height": h, "width": w}} in whole pixels'
    )


def is_edge(value: object) -> bool:
    """Whether the value is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def flag(options: Config, name: str) -> bool:
    """Return a boolean option; null is false. CheckpointError for a value of another type."""
    value = False if options[name] is None else options[name]
    if not isinstance(value, bool):
        raise CheckpointError(f"{name} is {shown(value)}, not true or false")
    return value


def resample_filter(value: object) -> int:
    """Check Pillow's number of a resampling filter."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= HAMMING:
        raise CheckpointError(
            f"resample is {shown(value)}, not a Pillow filter from 0 to {HAMMING}"
        )
    return value


def rescale_factor(options: Config) -> float:
    """Return the factor for pixel values 0 to 255."""
    value = options["rescale_factor"]
    if not is_number(value) or value <= 0:
        raise CheckpointError(f"rescale_factor is {shown(value)}, not a number greater than 0")
    return float(value)


def crop_rounding(options: Config) -> Literal["down", "even"]:
    """Return where a crop begins that leaves an odd number of pixels."""
    if (value := options["crop_rounding"]) not in ("down", "even"):
        raise CheckpointError(f"crop_rounding is {shown(value)}, not down or even")
    return "even" if value == "even" else "down"


def color(options: Config, name: str, channels: int) -> Color:
    """Return a number per channel from that many numbers or one; image_std must be positive."""
    value = options[name]
    values = value if isinstance(value, list | tuple) else [value] * channels
    if len(values) != channels or not all(map(is_number, values)):
        expected = {1: "one number", 3: "three numbers or one"}.get(channels)
        expected = expected or f"{channels} numbers or one"
        raise CheckpointError(f"{name} is {shown(value)}, not {expected}")
    if name == "image_std" and min(values) <= 0:
        raise CheckpointError(f"{name} is {shown(value)}, but all values must be greater than 0")
    return tuple(map(float, values))


def is_number(value: object) -> bool:
    """Whether the value is a finite number that a float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max
