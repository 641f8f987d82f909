"""Networks whose images have other channels than red, green and blue."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from models import checkpoint
from models.checkpoint import Checkpoint, CheckpointError
from models.explain import METHODS, explain
from models.figures.filters import filters_figure, first_filters
from models.preprocessing import Preprocessing, fit, normalize
from models.registry import architecture_of
from models.runtimes.openvino import OpenVINOForm
from models.runtimes.optimize import optimize
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

SMALL = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "mlp_size": 40, "num_labels": 5}
VIT = SMALL | {"image_size": (32, 48), "patch_size": 8}
STAGES = {
    "depths": (1, 1, 1, 1),
    "hidden_sizes": (8, 8, 16, 16),
    "num_heads": (1, 1, 2, 2),
    "decoder_hidden_size": 16,
    "num_labels": 5,
}
NETWORKS = {
    "convolution": lambda channels: ViT(ViTConfig(**VIT, num_channels=channels)),
    "linear": lambda channels: ViT(
        ViTConfig(
            **VIT, num_channels=channels, patch_embedding="linear", patch_order="channels_last"
        )
    ),
    "normalized": lambda channels: ViT(
        ViTConfig(**VIT, num_channels=channels, patch_embedding="normalized")
    ),
    "hybrid": lambda channels: ViT(
        ViTConfig(**VIT, num_channels=channels, patch_embedding="hybrid")
    ),
    "segmenting ViT": lambda channels: ViTSegmenter(
        ViTSegmenterConfig(**VIT, num_channels=channels)
    ),
    "SegFormer": lambda channels: Segformer(SegformerConfig(**STAGES, num_channels=channels)),
    "SegFormer classifier": lambda channels: SegformerClassifier(
        SegformerConfig(**STAGES, num_channels=channels)
    ),
}
CHANNELS = [1, 2, 5]


def preprocessing_of(channels):
    """Return a preprocessing with another mean and deviation for each channel."""
    mean = tuple(0.3 + 0.1 * c for c in range(channels))
    return Preprocessing(size=(32, 48), mean=mean, std=tuple(0.2 + 0.1 * m for m in mean))


def formula(images, preprocessing):
    """Normalize uint8 (B, H, W, C) one channel at a time."""
    planes = [
        (images[..., c].double() / 255 - mean) / std
        for c, (mean, std) in enumerate(zip(preprocessing.mean, preprocessing.std, strict=True))
    ]
    return torch.stack(planes, dim=1).float()


@pytest.fixture(params=NETWORKS)
def build(request, perturb):
    """A function from the number of channels to a network of each kind, in eval mode."""

    def network(channels):
        made = NETWORKS[request.param](channels).eval()
        perturb(made)
        return made

    return network


def bytes_of(channels, size=(2, 32, 48)):
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(256, (*size, channels), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", CHANNELS)
@torch.inference_mode()
def test_the_inference_form_agrees_for_any_number_of_channels(build, channels, assert_equal_logits):
    network, preprocessing = build(channels), preprocessing_of(channels)
    for size in ((2, 32, 48), (1, 45, 71)):
        images = bytes_of(channels, size)
        pixels = formula(images, preprocessing)
        torch.testing.assert_close(normalize(images, preprocessing), pixels, atol=1e-6, rtol=1e-6)
        logits = network(pixels)
        assert_equal_logits(optimize(network)(pixels), logits)
        form = optimize(network, normalization=preprocessing)
        assert_equal_logits(form(images), logits)
    rescaled = Preprocessing(size=(32, 48), mean=None, std=None)
    form = optimize(network, normalization=rescaled)
    assert_equal_logits(form(images), network(images.permute(0, 3, 1, 2).float() / 255))


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_saved_network_is_loaded_with_its_channels(build, channels, tmp_path):
    network, preprocessing = build(channels), preprocessing_of(channels)
    task = architecture_of(network).task
    saved = Checkpoint(network, tuple("abcde"), preprocessing, task)
    checkpoint.save(saved, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["num_channels"] == channels
    loaded = checkpoint.load(tmp_path)
    assert loaded.network.config == network.config
    assert loaded.preprocessing.mean == preprocessing.mean
    assert loaded.preprocessing.std == preprocessing.std
    pixels = torch.randn(2, channels, 32, 48)
    with torch.inference_mode():
        assert torch.equal(loaded.network(pixels), network(pixels))


@pytest.mark.parametrize("method", METHODS)
def test_a_prediction_for_gray_images_is_explained(build, method):
    network = build(1)
    pixels = torch.randn(2, 1, 45, 71)
    explanation = explain(network, pixels, method)
    with torch.no_grad():
        torch.testing.assert_close(explanation.logits, network(pixels))
    assert (explanation.relevance.sum((1, 2)) > 0.99).all()


@pytest.mark.parametrize("name", ["convolution", "segmenting ViT", "SegFormer"])
@torch.inference_mode()
def test_openvino_agrees_for_gray_images(name, perturb, assert_equal_logits, tmp_path):
    network, preprocessing = NETWORKS[name](1).eval(), preprocessing_of(1)
    perturb(network)
    images = bytes_of(1)
    form = OpenVINOForm(network, normalization=preprocessing, folder=tmp_path)
    assert_equal_logits(form(images), network(formula(images, preprocessing)))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        (
            transformers.ViTForImageClassification,
            {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40,
             "num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
        ),
        (
            transformers.SegformerForSemanticSegmentation,
            {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2],
             "decoder_hidden_size": 16},
        ),
    ],
    ids=["vit", "segformer"],
)  # fmt: skip
def test_the_reference_has_the_same_logits_for_any_number_of_channels(
    architecture, options, channels, perturb, assert_equal_logits, tmp_path
):
    config = architecture.config_class(num_channels=channels, num_labels=4, **options)
    model = architecture._from_config(config).eval()
    perturb(model)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.4] * channels, "image_std": 0.3})
    )
    loaded = checkpoint.load(tmp_path)
    assert loaded.preprocessing.std == (0.3,) * channels
    pixels = torch.randn(2, channels, 32, 32)
    with torch.no_grad():
        assert_equal_logits(loaded.network(pixels), model(pixels).logits)


@pytest.mark.parametrize("channels", CHANNELS)
@torch.no_grad()
def test_siglip_has_the_number_of_channels_in_its_section(
    channels, perturb, assert_equal_logits, tmp_path
):
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40}
    sizes |= {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8, "num_channels": channels}
    config = transformers.SiglipConfig(vision_config=sizes, num_labels=4)
    model = transformers.SiglipForImageClassification(config).eval()
    perturb(model)
    model.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.4] * channels, "image_std": 0.3})
    )
    loaded = checkpoint.load(tmp_path / "theirs")
    assert loaded.network.config.num_channels == channels
    pixels = torch.randn(2, channels, 32, 32)
    assert_equal_logits(loaded.network(pixels), model(pixels).logits)
    checkpoint.save(loaded, tmp_path / "ours")
    document = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert document["vision_config"]["num_channels"] == channels
    assert "num_channels" not in document
    again = transformers.SiglipForImageClassification.from_pretrained(tmp_path / "ours").eval()
    assert_equal_logits(again(pixels).logits, model(pixels).logits)


@pytest.mark.parametrize("size", [(32, 48), (57, 33), (90, 121)])
def test_gray_pixels_equal_those_of_the_reference(size):
    gray = Image.fromarray(bytes_of(1, size[:1] + size[1:])[..., 0].numpy(), "L")
    preprocessing = Preprocessing(size=(40, 56), mean=(0.4,), std=(0.3,))
    reference = transformers.ViTImageProcessor(
        size={"height": 40, "width": 56}, image_mean=[0.4], image_std=[0.3]
    )
    theirs = reference(np.asarray(gray)[None], input_data_format="channels_first")
    fitted = torch.from_numpy(np.array(fit(gray, preprocessing)))[None, ..., None]
    ours = normalize(fitted, preprocessing).numpy()
    assert np.array_equal(ours[0], np.asarray(theirs["pixel_values"][0]))


def test_the_filters_of_gray_images_are_gray():
    network = NETWORKS["convolution"](1)
    assert first_filters(network).shape == (24, 1, 8, 8)
    assert filters_figure(network, "gray").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="filters of 2 channels have no color"):
        filters_figure(NETWORKS["convolution"](2), "two")


@pytest.mark.parametrize("config", [ViTConfig, ViTSegmenterConfig, SegformerConfig])
def test_a_network_has_at_least_one_channel(config):
    with pytest.raises(ValueError, match="num_channels is 0, not 1 or more"):
        config(num_channels=0)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"image_mean": [0.5] * 3}, r"image_mean is \[0.5, 0.5, 0.5\], not one number"),
        ({"image_mean": [], "image_std": []}, r"image_mean is \[\], not one number"),
        ({"image_mean": [0.5], "image_std": [0.0]}, "all values must be greater than 0"),
        ({}, r"image_mean is \(0.5, 0.5, 0.5\), not one number"),
        (None, "no preprocessor_config.json.*num_channels 1: add a file with image_mean"),
    ],
)
def test_a_mean_of_another_number_of_channels_is_refused(document, message, tmp_path):
    network = NETWORKS["convolution"](1)
    checkpoint.save(Checkpoint(network, tuple("abcde"), preprocessing_of(1), "classify"), tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.unlink() if document is None else file.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path)
