import pytest

from models.preprocessing import HALF, IMAGENET_MEAN, NEAREST
from models.segformer import Segformer, SegformerClassifier
from models.training.fitting.networks import network_named, preprocessing_for, task_of
from models.vit import ViT
from models.vit_segmenter import ViTSegmenter

TINY = {"num_layers": "1", "hidden_size": "24", "num_heads": "3", "mlp_size": "24"}
SMALL = {"depths": "1,1,1,1", "hidden_sizes": "8,8,8,8", "num_heads": "1,1,1,1"}


@pytest.mark.parametrize(
    ("name", "kind", "task"),
    [
        ("vit-ti/16", ViT, "classify"),
        ("vit-h/14", ViT, "classify"),
        ("deit-s/16", ViT, "classify"),
        ("vit-segmenter", ViTSegmenter, "segment"),
        ("segformer-b5", Segformer, "segment"),
        ("mit-b0", SegformerClassifier, "classify"),
    ],
)
def test_each_name_has_its_network_and_task(name, kind, task):
    options = SMALL if "-b" in name else TINY
    network = network_named(name, num_labels=5, options=options)
    assert type(network) is kind
    assert network.config.num_labels == 5
    assert task_of(name) == task


def test_the_name_defines_size_and_patch():
    config = network_named("vit-s/32", num_labels=2, options={"num_layers": "1"}).config
    assert (config.hidden_size, config.patch_size, config.image_size) == (384, 32, (224, 224))


def test_deit_has_a_distillation_token_and_head():
    config = network_named("deit-ti/16", num_labels=2, options=TINY).config
    assert config.distillation_token
    assert config.distillation_head


def test_options_have_the_types_of_their_defaults():
    options = {"positions": "sinusoidal_2d", "qkv_bias": "false", "dropout": "0.25"}
    config = network_named("vit-ti/16", num_labels=2, image_size=32, options=TINY | options).config
    assert (config.positions, config.qkv_bias, config.dropout) == ("sinusoidal_2d", False, 0.25)
    assert config.image_size == (32, 32)
    assert network_named("mit-b0", num_labels=2, options=SMALL).config.depths == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("vit-xl/16", {}, "no network is called"),
        ("vit-b", {}, "no network is called"),
        ("segformer-b9", {}, "unknown SegFormer"),
        ("vit-ti/16", {"depth": "3"}, "no option is called 'depth'"),
        ("vit-ti/16", {"num_channels": "1"}, "no option is called 'num_channels'"),
        ("vit-ti/16", {"head_dim": "wide"}, "option head_dim=wide is not an integer"),
        ("vit-ti/16", {"head_dim": "0"}, "head_dim is 0, not 1 or more"),
        ("vit-ti/16", {"patch_order": "channels_last"}, "needs linear or normalized patches"),
        ("vit-ti/16", {"num_labels": "3"}, "no option is called 'num_labels'"),
        ("vit-ti/16", {"num_layers": "few"}, "num_layers=few"),
        ("vit-ti/16", {"qkv_bias": "maybe"}, "qkv_bias=maybe"),
        ("vit-ti/16", {"positions": "gps"}, "gps"),
        ("vit-ti/16", {"patch_size": "15"} | TINY, "not a multiple"),
        ("deit-ti/16", {"pooling": "mean"}, "class token"),
    ],
)
def test_unknown_names_and_options_are_refused(name, options, error):
    with pytest.raises(ValueError, match=error):
        network_named(name, num_labels=2, options=options)


@pytest.mark.parametrize("name", ["segformer-b0", "mit-b0"])
def test_an_image_size_too_small_for_four_stages_is_refused(name):
    with pytest.raises(ValueError, match="at least 32"):
        network_named(name, num_labels=2, image_size=28, options=SMALL)


def test_each_family_has_its_usual_preprocessing():
    assert preprocessing_for("vit-b/16", None, as_is=False).mean == HALF
    assert preprocessing_for("mit-b0", 64, as_is=False).size == (64, 64)
    assert preprocessing_for("segformer-b0", None, as_is=False).mean == IMAGENET_MEAN
    assert preprocessing_for("segformer-b0", None, as_is=False).size == (512, 512)
    assert preprocessing_for("vit-segmenter", None, as_is=False).mean is None


def test_as_is_images_are_only_resized_and_rescaled():
    preprocessing = preprocessing_for("vit-b/16", None, as_is=True)
    assert (preprocessing.resample, preprocessing.mean, preprocessing.rescale_factor) == (
        NEAREST,
        None,
        1 / 255,
    )
