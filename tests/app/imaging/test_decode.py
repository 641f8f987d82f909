"""Resizing, cropping and normalising: equal to transformers' PIL image processors, bit for bit."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from app.imaging.decode import decode
from models.checkpoint.preprocessor_config import parse
from models.preprocessing import normalize

REFERENCES = {
    "ViTImageProcessor": ViTImageProcessorPil,
    "DeiTImageProcessor": DeiTImageProcessorPil,
    "SegformerImageProcessor": SegformerImageProcessorPil,
}
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
SIZES = [(64, 48), (37, 53), (1, 40), (40, 1), (1, 1), (201, 7), (9, 150), (32, 32)]  # (w, h)
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def photo(width: int, height: int) -> Image.Image:
    """Noise over a gradient, on which every filter and rounding gives a different result."""
    rng = np.random.default_rng(width * 1000 + height)
    ramp = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    return Image.fromarray((ramp + rng.integers(0, 56, ramp.shape)).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def reference(config: dict, image: Image.Image, **changes: bool) -> np.ndarray:
    processor = REFERENCES[config["image_processor_type"]](**config)
    return processor(images=image, return_tensors="np", **changes)["pixel_values"][0]


def assert_same_pixels(config: dict, image: Image.Image) -> None:
    ours = decode(png(image), parse(config, "ViTImageProcessor"), max_pixels=10**6).pixels
    theirs = reference(config, image, do_rescale=False, do_normalize=False)
    assert ours.dtype == theirs.dtype == np.uint8
    np.testing.assert_array_equal(ours, theirs.transpose(1, 2, 0))


def vit(**config) -> dict:
    return {"image_processor_type": "ViTImageProcessor"} | config


def deit(**config) -> dict:
    return {"image_processor_type": "DeiTImageProcessor"} | config


@pytest.mark.parametrize("resample", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_fixed_size_ignores_the_aspect_ratio(resample, size):
    config = vit(size={"height": 32, "width": 40}, resample=resample)
    assert_same_pixels(config, photo(*size))


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("size", [(300, 200), (200, 301)], ids=str)
def test_the_defaults_of_every_processor_are_those_of_the_reference(kind, size):
    assert_same_pixels({"image_processor_type": kind}, photo(*size))


@pytest.mark.parametrize("resample", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_shortest_edge_keeps_the_aspect_ratio(resample, size):
    assert_same_pixels(vit(size={"shortest_edge": 24}, resample=resample), photo(*size))


@pytest.mark.parametrize("size", [*SIZES, (50, 33), (24, 30), (30, 24), (72, 24)], ids=str)
@pytest.mark.parametrize("longest", [30, 48, 1000])
def test_the_longest_edge_limits_the_size_from_the_shortest_edge(size, longest):
    config = vit(size={"shortest_edge": 24, "longest_edge": longest})
    assert_same_pixels(config, photo(*size))


@pytest.mark.parametrize("crop", [(24, 24), (25, 24), (24, 25), (17, 31)], ids=str)
@pytest.mark.parametrize("size", [(32, 32), (33, 32), (32, 33), (33, 47)], ids=str)
def test_the_centre_is_cropped_at_odd_offsets_too(crop, size):
    box = {"height": crop[0], "width": crop[1]}
    assert_same_pixels(deit(do_resize=False, crop_size=box), photo(*size))


@pytest.mark.parametrize("size", [(10, 10), (11, 10), (10, 13), (40, 10), (9, 40), (1, 1)], ids=str)
@pytest.mark.parametrize("crop", [24, 25])
def test_a_crop_larger_than_the_image_is_padded_with_black(crop, size):
    box = {"height": crop, "width": crop}
    assert_same_pixels(deit(do_resize=False, crop_size=box), photo(*size))


@pytest.mark.parametrize("size", [(64, 48), (37, 53), (201, 7)], ids=str)
def test_the_resize_to_the_shortest_edge_is_before_the_crop(size):
    edge, box = {"shortest_edge": 29}, {"height": 24, "width": 24}
    assert_same_pixels(deit(size=edge, crop_size=box), photo(*size))


@pytest.mark.parametrize("kind", REFERENCES)
def test_without_a_resize_the_pixels_are_unchanged(kind):
    config = {"image_processor_type": kind, "do_resize": False, "do_center_crop": False}
    assert_same_pixels(config, photo(37, 53))


def test_an_image_of_the_input_size_is_unchanged():
    image = photo(40, 32)
    config = vit(size={"height": 32, "width": 40}, resample=FILTERS["lanczos"])
    assert_same_pixels(config, image)
    pixels = decode(png(image), parse(config, "ViTImageProcessor"), max_pixels=10**6).pixels
    np.testing.assert_array_equal(pixels, np.asarray(image))


@pytest.mark.parametrize(
    "config",
    [
        vit(size={"height": 32, "width": 32}),
        vit(size={"height": 32, "width": 32}, rescale_factor=1 / 127.5),
        vit(size={"height": 32, "width": 32}, rescale_factor=0.0123),
        vit(size={"height": 32, "width": 32}, do_rescale=False),
        vit(size={"height": 32, "width": 32}, do_normalize=False),
        deit(size={"shortest_edge": 32}, crop_size={"height": 24, "width": 24}, **IMAGENET),
        {"image_processor_type": "SegformerImageProcessor", "size": {"height": 32, "width": 48}},
    ],
    ids=["half", "double", "odd factor", "not rescaled", "not normalised", "deit", "segformer"],
)
def test_normalised_values_are_those_of_the_reference(config):
    image = photo(64, 48)
    preprocessing = parse(config, "ViTImageProcessor")
    pixels = decode(png(image), preprocessing, max_pixels=10**6).pixels
    ours = normalize(torch.tensor(pixels)[None], preprocessing)[0].numpy()
    theirs = reference(config, image)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_photo_has_the_size_of_the_whole_image():
    config = vit(size={"height": 8, "width": 8})
    plain = decode(png(photo(37, 53)), parse(config, "ViTImageProcessor"), max_pixels=10**6)
    assert (plain.width, plain.height, plain.rgb) == (37, 53, None)


def test_keep_rgb_keeps_the_whole_image():
    image, preprocessing = photo(37, 53), parse(vit(), "ViTImageProcessor")
    kept = decode(png(image), preprocessing, max_pixels=10**6, keep_rgb=True)
    np.testing.assert_array_equal(np.asarray(kept.rgb), np.asarray(image))
