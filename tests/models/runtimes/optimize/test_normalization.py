import pytest
import torch

from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalize
from models.runtimes.optimize.normalization import fold_normalization

IMAGENET = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)


@torch.no_grad()
def test_uint8_pixels_give_the_logits_of_normalized_pixels(each_kind, assert_equal_logits):
    form = fold_normalization(each_kind, IMAGENET)
    for batch, size in ((2, (32, 48)), (1, (45, 70))):
        image = torch.randint(0, 256, (batch, *size, 3), dtype=torch.uint8)
        assert_equal_logits(form(image), each_kind(normalize(image, IMAGENET)))


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(rescale_factor=None, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0)),
        Preprocessing(mean=None, std=None),
    ],
)
@pytest.mark.parametrize("name", ["plain", "SegFormer"])
@torch.no_grad()
def test_each_part_of_the_normalization_is_optional(
    name, preprocessing, network, assert_equal_logits
):
    plain, image = network(name), torch.randint(0, 256, (2, 45, 70, 3), dtype=torch.uint8)
    form = fold_normalization(plain, preprocessing)
    assert_equal_logits(form(image), plain(normalize(image, preprocessing)))


def test_the_scale_is_folded_unless_a_norm_comes_first(each_kind):
    form = fold_normalization(each_kind, IMAGENET)
    config = each_kind.config
    assert (form.scale is not None) == (getattr(config, "patch_embedding", None) == "normalized")


@torch.no_grad()
def test_uint8_pixels_may_be_a_view(network, assert_equal_logits):
    plain = network("SegFormer")
    image = torch.randint(0, 256, (2, 3, 45, 70), dtype=torch.uint8).permute(0, 2, 3, 1)
    ours = fold_normalization(plain, IMAGENET)(image)
    assert_equal_logits(ours, plain(normalize(image, IMAGENET)))
