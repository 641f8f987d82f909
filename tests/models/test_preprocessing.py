import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.image_transforms import (
    center_crop,
    get_resize_output_image_size,
    get_size_with_aspect_ratio,
)

from models.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    normalize,
    scaled_size,
)

SIZES = [(480, 640), (640, 480), (333, 333), (1, 7), (257, 256), (37, 1999), (256, 400)]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shortest", [1, 30, 256])
def test_a_shortest_edge_scales_as_the_reference_does(size, shortest):
    image = np.empty((3, *size), dtype=np.uint8)
    expected = get_resize_output_image_size(
        image, shortest, default_to_square=False, input_data_format="channels_first"
    )
    assert scaled_size(*size, shortest) == expected
    assert Preprocessing(size=None, shortest_edge=shortest).resized_size(*size) == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("shortest", "longest"), [(30, 40), (256, 300), (256, 256), (100, 9999)])
def test_a_longest_edge_limits_the_size_as_in_the_reference(size, shortest, longest):
    expected = get_size_with_aspect_ratio(size, shortest, longest)
    if 0 not in expected:  # the reference fails for these
        preprocessing = Preprocessing(size=None, shortest_edge=shortest, longest_edge=longest)
        assert preprocessing.resized_size(*size) == expected


def test_no_edge_is_shorter_than_one_pixel():
    assert scaled_size(1, 1000, 30, 100) == (1, 100)


@pytest.mark.parametrize("height", [5, 6, 7, 8, 9, 12, 13])
@pytest.mark.parametrize("crop", [(6, 7), (7, 6), (9, 9)])
def test_the_crop_box_crops_and_pads_like_the_reference(height, crop):
    image = np.random.default_rng(0).integers(1, 256, (height, 8, 3), dtype=np.uint8)
    top, left, bottom, right = Preprocessing(crop_size=crop).crop_box(height, 8)
    ours = np.asarray(Image.fromarray(image).crop((left, top, right, bottom)))
    assert np.array_equal(ours, center_crop(image, crop))


def test_without_sizes_an_image_is_neither_resized_nor_cropped():
    preprocessing = Preprocessing(size=None)
    assert preprocessing.resized_size(30, 40) is None
    assert preprocessing.crop_box(30, 40) is None
    assert preprocessing.input_size is None


@pytest.mark.parametrize(
    ("preprocessing", "size"),
    [
        (Preprocessing(size=(30, 40)), (30, 40)),
        (Preprocessing(size=(30, 40), crop_size=(20, 20)), (20, 20)),
        (Preprocessing(size=None, shortest_edge=30, crop_size=(20, 25)), (20, 25)),
        (Preprocessing(size=None, shortest_edge=30), None),
    ],
)
def test_input_size_is_none_if_it_depends_on_the_image(preprocessing, size):
    assert preprocessing.input_size == size


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
        {"image_mean": CLIP_MEAN, "image_std": CLIP_STD},
        {"rescale_factor": 0.00392156862745098},
        {"rescale_factor": 1 / 127.5, "image_mean": (1.0,) * 3, "image_std": (1.0,) * 3},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"do_rescale": False, "image_mean": (120.0, 110.0, 100.0), "image_std": (60.0,) * 3},
    ],
)
def test_normalized_values_equal_the_reference_bit_by_bit(options):
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 16, 16, 3)
    processor = transformers.ViTImageProcessorPil(do_resize=False, **options)
    theirs = processor(pixels[0].numpy(), return_tensors="np", input_data_format="channels_last")
    ours = normalize(
        pixels,
        Preprocessing(
            rescale_factor=processor.rescale_factor if processor.do_rescale else None,
            mean=tuple(processor.image_mean) if processor.do_normalize else None,
            std=tuple(processor.image_std) if processor.do_normalize else None,
        ),
    )
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()
    assert np.array_equal(ours.numpy(), theirs["pixel_values"].astype(np.float32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_normalization_on_a_gpu_is_within_1e_6():
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    preprocessing = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    on_gpu = normalize(pixels.cuda(), preprocessing)
    assert on_gpu.is_cuda
    assert (on_gpu.cpu() - normalize(pixels, preprocessing)).abs().max() <= 1e-6


def test_normalize_does_not_modify_its_input():
    pixels = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    before = pixels.clone()
    assert normalize(pixels, Preprocessing()).shape == (2, 3, 5, 7)
    assert torch.equal(pixels, before)


def test_another_input_size_stretches_the_image_to_it():
    assert Preprocessing().at(384) == Preprocessing(size=(384, 384))
    varying = Preprocessing(size=None, shortest_edge=512, longest_edge=2048)
    assert varying.at(640) == Preprocessing(size=(640, 640))


@pytest.mark.parametrize(
    ("trained", "served"),
    [
        (
            Preprocessing(size=(256, 256), crop_size=(224, 224)),
            Preprocessing(size=(439, 439), crop_size=(384, 384)),
        ),
        (
            Preprocessing(size=None, shortest_edge=256, longest_edge=512, crop_size=(224, 224)),
            Preprocessing(size=None, shortest_edge=439, longest_edge=878, crop_size=(384, 384)),
        ),
        (
            Preprocessing(size=None, crop_size=(224, 224)),
            Preprocessing(size=None, crop_size=(384, 384)),
        ),
    ],
)
def test_another_input_size_crops_the_same_part(trained, served):
    assert trained.at(384) == served
    assert served.input_size == (384, 384)


@pytest.mark.parametrize(
    ("preprocessing", "box"),
    [
        (Preprocessing(size=(50, 100)), (0.0, 0.0, 300.0, 400.0)),
        (Preprocessing(size=None), (0.0, 0.0, 50.0, 100.0)),
        (Preprocessing(size=None, shortest_edge=150, crop_size=(50, 100)), (100, 100, 200, 300)),
        (Preprocessing(size=None, crop_size=(400, 400)), (-50, 0, 0, 100)),
    ],
)
def test_a_box_of_the_input_is_converted_to_image_pixels(preprocessing, box):
    assert preprocessing.source_box(300, 400, (0, 0, 50, 100)) == pytest.approx(box)
