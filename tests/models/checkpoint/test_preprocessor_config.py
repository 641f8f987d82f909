import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from models.checkpoint.preprocessor_config import (
    BEIT,
    BIT,
    CLIP,
    DEIT,
    SEGFORMER,
    SIGLIP,
    VIT,
    document,
    parse,
)
from models.errors import CheckpointError
from models.preprocessing import (
    BICUBIC,
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    fit,
    normalize,
)

OLD_VIT = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": 384,
}
OLD_DEIT = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "DeiTFeatureExtractor",
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
    "resample": 3,
    "size": 256,
}
OLD_SEGFORMER = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "SegformerFeatureExtractor",
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
    "reduce_labels": True,
    "resample": 2,
    "size": 512,
}


OTHERS = {
    BIT: transformers.BitImageProcessorPil,
    CLIP: transformers.CLIPImageProcessorPil,
    BEIT: transformers.BeitImageProcessorPil,
    SIGLIP: transformers.SiglipImageProcessorPil,
}
SIZES = ((48, 56), (231, 97), (64, 301))  # of images, height x width


def test_the_old_style_of_vit():
    assert parse(OLD_VIT, SEGFORMER) == Preprocessing(size=(384, 384))


def test_the_old_style_of_deit():
    assert parse(OLD_DEIT, VIT) == Preprocessing(
        processor=DEIT,
        size=(256, 256),
        resample=BICUBIC,
        crop_size=(224, 224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def test_the_old_style_of_segformer_keeps_its_reduced_labels():
    assert parse(OLD_SEGFORMER, VIT) == Preprocessing(
        processor=SEGFORMER,
        size=(512, 512),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        reduce_labels=True,
    )


@pytest.mark.parametrize(
    "name",
    ["ViTImageProcessor", "ViTImageProcessorFast", "ViTImageProcessorPil", "ViTFeatureExtractor"],
)
def test_all_historical_processor_names_are_accepted(name):
    assert parse({"image_processor_type": name}, DEIT) == Preprocessing()


@pytest.mark.parametrize(
    ("processor", "reference"),
    [
        (VIT, transformers.ViTImageProcessorPil),
        (DEIT, transformers.DeiTImageProcessorPil),
        (SEGFORMER, transformers.SegformerImageProcessorPil),
        *OTHERS.items(),
    ],
)
def test_missing_values_have_the_defaults_of_the_reference(processor, reference, tmp_path):
    reference().save_pretrained(tmp_path)
    complete = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert complete["image_processor_type"] == processor
    assert parse({}, processor) == parse(complete, VIT)


@pytest.mark.parametrize("suffix", ["ImageProcessor", "ImageProcessorFast", "FeatureExtractor"])
@pytest.mark.parametrize("processor", OTHERS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"size": 37},
        {"size": 41, "crop_size": 33, "do_center_crop": True, "resample": 2},
        {"size": {"shortest_edge": 45}, "do_center_crop": False, "image_mean": [0.1, 0.2, 0.3]},
        {"size": {"height": 30, "width": 51}, "crop_size": [35, 40], "do_center_crop": True},
        {"do_resize": False, "do_rescale": None, "image_std": [0.3, 0.2, 0.1]},
    ],
)
def test_other_processors_on_a_vit_give_the_pixels_of_transformers(processor, suffix, fields):
    name = {"image_processor_type": processor.replace("ImageProcessor", suffix)}
    ours, theirs = parse(name | fields, VIT), OTHERS[processor](**fields)
    assert parse(json.loads(json.dumps(document(ours))), VIT) == ours
    for seed, size in enumerate(SIZES):
        noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        expected = theirs(Image.fromarray(noise), return_tensors="pt").pixel_values[0]
        pixels = torch.tensor(np.array(fit(Image.fromarray(noise), ours)))[None]  # (1, H, W, 3)
        assert torch.equal(normalize(pixels, ours)[0], expected.float())


@pytest.mark.parametrize(
    ("size", "fields"),
    [
        (224, {"size": (224, 224)}),
        ([200, 300], {"size": (200, 300)}),
        ({"height": 200, "width": 300}, {"size": (200, 300)}),
        ({"shortest_edge": 256}, {"size": None, "shortest_edge": 256}),
        (
            {"shortest_edge": 256, "longest_edge": 500},
            {"size": None, "shortest_edge": 256, "longest_edge": 500},
        ),
    ],
)
def test_every_form_of_size_is_accepted(size, fields):
    assert parse({"size": size}, VIT) == Preprocessing(**fields)


def test_without_default_to_square_a_single_size_is_the_shortest_edge():
    preprocessing = parse({"size": 256, "default_to_square": False}, VIT)
    assert preprocessing == Preprocessing(size=None, shortest_edge=256)


def test_disabled_steps_are_none():
    off = dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_center_crop"), False)
    assert parse(off, DEIT) == Preprocessing(
        processor=DEIT, size=None, resample=BICUBIC, rescale_factor=None, mean=None, std=None
    )


FLAGS = ("do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_pad", "do_reduce_labels")


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("processor", [VIT, DEIT, SEGFORMER])
def test_a_step_whose_flag_is_null_is_left_out(name, processor):
    assert parse({name: None}, processor) == parse({name: False}, processor)


@pytest.mark.parametrize("name", ["do_rescale", "do_normalize", "do_center_crop"])
def test_a_null_flag_is_off_in_the_reference_too(name):
    noise = np.random.default_rng(3).integers(0, 256, (48, 56, 3), np.uint8)
    picture = Image.fromarray(noise)
    theirs = transformers.DeiTImageProcessorPil(**{name: None, "size": 40, "crop_size": 32})
    ours = parse({name: None, "size": 40, "crop_size": 32}, DEIT)
    expected = theirs(picture, return_tensors="pt").pixel_values[0]
    pixels = torch.tensor(np.array(fit(picture, ours)))[None]  # (1, H, W, 3)
    assert torch.equal(normalize(pixels, ours)[0], expected.float())


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"image_mean": None}, "image_mean is None"),
        ({"image_std": None}, "image_std is None"),
        ({"rescale_factor": None}, "rescale_factor is None"),
        ({"resample": None}, "resample is None"),
        ({"size": None}, "size is None"),
        ({"do_center_crop": True, "crop_size": None}, "crop_size is None"),
    ],
)
def test_a_null_value_of_a_step_is_refused_by_name(config, named):
    with pytest.raises(CheckpointError, match=named):
        parse(config, DEIT)


@pytest.mark.parametrize(
    "config",
    [
        {"do_normalize": False, "image_mean": None, "image_std": None},
        {"do_rescale": False, "rescale_factor": None},
        {"do_resize": False, "size": None, "resample": None},
        {"do_center_crop": False, "crop_size": None},
    ],
)
def test_a_null_value_of_a_step_that_is_off_does_not_matter(config):
    flags = {name: value for name, value in config.items() if name.startswith("do_")}
    assert parse(config, DEIT) == parse(flags, DEIT)


def test_segformer_never_crops_as_its_reference_never_does():
    crop = {"do_center_crop": True, "crop_size": 100}
    assert parse(crop, SEGFORMER).crop_size is None
    assert parse(crop, VIT).crop_size == (100, 100)


def test_one_number_applies_to_all_three_channels():
    assert parse({"image_mean": 0, "image_std": 1}, VIT) == Preprocessing(
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"image_processor_type": "BlipImageProcessor"}, "'BlipImageProcessor' is not supported;"),
        (
            {"feature_extractor_type": "ConvNextFeatureExtractor"},
            "'ConvNextFeatureExtractor' is not supported, because it crops by crop_pct; supported",
        ),
        ({"use_square_size": True}, "use_square_size is true: write the size as height and width"),
        ({"image_processor_type": 3}, "3 is not supported"),
        ({"size": 0}, r"size is 0, not n, \[h, w\] or"),
        ({"size": True}, "size is True, not n"),
        ({"size": [224]}, r"size is \[224\], not n"),
        ({"size": [224.0, 224.0]}, "size is .*, not n"),
        ({"size": {"longest_edge": 224}}, "size is .*, not n"),
        ({"size": {"shortest_edge": 224, "height": 3}}, "size is .*; with shortest_edge only"),
        ({"size": {"shortest_edge": "224"}}, "size is .* in whole pixels"),
        ({"do_center_crop": True}, "crop_size is None, not n"),
        (
            {"do_center_crop": True, "crop_size": {"shortest_edge": 3}},
            "crop_size is .*, not n",
        ),
        ({"do_resize": "yes"}, "do_resize is 'yes', not true or false"),
        ({"do_pad": True}, "do_pad is true, but padding is not supported"),
        ({"resample": 6}, "resample is 6, not a Pillow filter"),
        ({"resample": "bilinear"}, "resample is 'bilinear', not a Pillow filter"),
        ({"rescale_factor": 0}, "rescale_factor is 0, not a number greater than 0"),
        ({"rescale_factor": float("nan")}, "rescale_factor is nan"),
        ({"image_mean": [0.5, 0.5]}, "image_mean is .*, not three numbers"),
        ({"image_mean": ["0.5"] * 3}, "image_mean is .*, not three numbers"),
        ({"image_std": [0.5, 0.5, 0.0]}, "image_std is .*, but all values must be greater than 0"),
    ],
)
def test_the_error_names_the_invalid_value(config, message):
    with pytest.raises(CheckpointError, match=message):
        parse(config, VIT)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(processor=SEGFORMER, size=(128, 96), reduce_labels=True),
        Preprocessing(processor=DEIT, size=None, shortest_edge=256, crop_size=(224, 200)),
        Preprocessing(size=None, shortest_edge=256, longest_edge=400, resample=BICUBIC),
        Preprocessing(size=None, rescale_factor=None, mean=None, std=None),
        Preprocessing(mean=None, std=None),
        Preprocessing(rescale_factor=1 / 127.5, mean=HALF, std=IMAGENET_STD),
    ],
)
def test_a_document_is_read_back_as_it_was_written(preprocessing):
    written = json.loads(json.dumps(document(preprocessing)))
    assert parse(written, SEGFORMER) == preprocessing


def test_transformers_reads_a_written_preprocessor_config(tmp_path: Path):
    preprocessing = Preprocessing(
        processor=DEIT, size=None, shortest_edge=64, crop_size=(48, 56), mean=IMAGENET_MEAN
    )
    text = json.dumps(document(preprocessing))
    (tmp_path / "preprocessor_config.json").write_text(text)
    theirs = transformers.DeiTImageProcessorPil.from_pretrained(tmp_path)
    assert dict(theirs.size) == {"shortest_edge": 64}
    assert dict(theirs.crop_size) == {"height": 48, "width": 56}
    assert (theirs.resample, theirs.image_mean) == (2, IMAGENET_MEAN)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": 10**6}, "size is 1000000, but at most 4096"),
        ({"size": {"height": 224, "width": 5000}}, "size is 5000"),
        ({"size": {"shortest_edge": 10**6}}, r"size\.shortest_edge is 1000000"),
        ({"do_center_crop": True, "crop_size": 10**6}, "crop_size is 1000000"),
        ({"image_mean": [10**400] * 3}, "image_mean is .*, not three numbers"),
    ],
)
def test_values_beyond_the_limits_are_refused_by_name(config, message):
    with pytest.raises(CheckpointError, match=message):
        parse(config, "ViTImageProcessor")
