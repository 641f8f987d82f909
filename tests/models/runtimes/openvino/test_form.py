"""The OpenVINO runtime gives the outputs of the plain networks, also for concurrent calls."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalize
from models.runtimes.openvino import OpenVINOForm
from models.runtimes.openvino.form import MAX_COMPILED, batch_sizes
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

SIDES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "mlp_size": 64, "num_labels": 5}
VIT = {**SIDES, "image_size": (32, 48), "patch_size": 16}
SEGFORMER = SegformerConfig(
    depths=(1, 1, 1, 1),
    hidden_sizes=(8, 16, 24, 32),
    num_heads=(1, 2, 3, 4),
    decoder_hidden_size=16,
    num_labels=5,
)
NETWORKS = {
    "ViT": lambda: ViT(ViTConfig(**VIT)),
    "ViT with quick GELU": lambda: ViT(ViTConfig(**VIT, hidden_act="quick_gelu")),
    "DeiT": lambda: ViT(ViTConfig(**VIT, distillation_token=True, distillation_head=True)),
    "DINOv2": lambda: ViT(
        ViTConfig(**{**VIT, "image_size": (64, 64)}, pooling="class_mean", mlp="swiglu")
    ),
    "DINOv2 with registers": lambda: ViT(
        ViTConfig(
            **{**VIT, "image_size": (64, 64)}, pooling="class_mean", num_registers=4, antialias=True
        )
    ),
    "Segformer": lambda: Segformer(SEGFORMER),
    "aligned": lambda: Segformer(replace(SEGFORMER, aligned_upsampling=True, norm_eps=0.1)),
    "SegformerClassifier": lambda: SegformerClassifier(SEGFORMER),
    "ViTSegmenter": lambda: ViTSegmenter(ViTSegmenterConfig(**VIT)),
    "axial": lambda: ViT(ViTConfig(**VIT, attention="axial")),
    "wide heads": lambda: ViT(ViTConfig(**VIT, head_dim=24)),
}
IMAGENET = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
BYTES = torch.randint(
    0, 256, (3, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
PIXELS = normalize(BYTES, IMAGENET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The cache of this test module, so that each network is converted once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def vit(perturb):
    network = NETWORKS["ViT"]().eval()
    perturb(network)
    return network


@pytest.mark.parametrize(
    "name",
    [
        "ViT",
        "ViT with quick GELU",
        "DINOv2",  # SwiGLU, resampled positions
        "DINOv2 with registers",  # resampled with antialiasing
        pytest.param("ViTSegmenter", marks=pytest.mark.slow),  # the encoder of ViT
        pytest.param("Segformer", marks=pytest.mark.slow),  # its export takes 15 s
        pytest.param("aligned", marks=pytest.mark.slow),
        pytest.param("DeiT", marks=pytest.mark.slow),  # a ViT with one more token
        pytest.param("SegformerClassifier", marks=pytest.mark.slow),  # the encoder of Segformer
    ],
)
@torch.inference_mode()
def test_logits_equal_those_of_the_plain_network(name, folder, perturb, assert_equal_logits):
    network = NETWORKS[name]().eval()
    perturb(network)
    form = OpenVINOForm(network, normalization=IMAGENET, folder=folder)
    assert_equal_logits(form(BYTES), network(PIXELS))


@torch.inference_mode()
def test_without_a_normalization_normalized_pixels_are_accepted(vit, folder, assert_equal_logits):
    form = OpenVINOForm(vit, folder=folder)
    assert_equal_logits(form(PIXELS), vit(PIXELS))
    assert_equal_logits(form(PIXELS.double()), vit(PIXELS))


@torch.inference_mode()
def test_any_batch_size_is_accepted(vit, folder, assert_equal_logits):
    form = OpenVINOForm(vit, normalization=IMAGENET, folder=folder)
    for batch in (1, 2, 3):
        assert_equal_logits(form(BYTES[:batch]), vit(PIXELS[:batch]))


@torch.inference_mode()
def test_a_large_batch_is_split_into_the_compiled_sizes():
    assert batch_sizes(1) == [1]
    assert batch_sizes(8) == [8]
    assert batch_sizes(23) == [8, 8, 4, 2, 1]
    assert all(sum(batch_sizes(n)) == n for n in range(1, 70))


def test_the_most_recently_used_compiled_models_are_kept(vit, folder, monkeypatch):
    compiled = []

    class FakeModel:
        def __init__(self, shape):
            compiled.append(shape)

        def run(self, pixels):
            return [torch.zeros(len(pixels), 3)]

    runtime = OpenVINOForm(vit, folder=folder)
    monkeypatch.setattr(runtime, "_compile", FakeModel)
    sizes = list(range(16, 16 * (MAX_COMPILED + 1), 16))
    for side in [*sizes, sizes[0], 512, sizes[0], sizes[1]]:
        runtime(torch.zeros(1, 3, side, side))
    assert [shape[2] for shape in compiled] == [*sizes, 512, sizes[1]]


def test_classify_returns_logits_and_embedding(vit, folder, assert_equal_logits):
    output = OpenVINOForm(vit, normalization=IMAGENET, folder=folder).classify(BYTES)
    expected = vit.classify(PIXELS)
    assert_equal_logits(output.logits, expected.logits)
    assert_equal_logits(output.embedding, expected.embedding)


@torch.inference_mode()
def test_bfloat16_logits_are_close_and_returned_as_float32(vit, folder):
    form = OpenVINOForm(vit, dtype=torch.bfloat16, normalization=IMAGENET, folder=folder)
    logits = form(BYTES)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, vit(PIXELS), atol=0.1, rtol=0.1)


def test_an_unsupported_dtype_is_refused(vit, folder):
    with pytest.raises(ValueError, match=r"not torch\.float64"):
        OpenVINOForm(vit, dtype=torch.float64, folder=folder)


@torch.inference_mode()
def test_concurrent_calls_do_not_affect_each_other(vit, folder, assert_equal_logits):
    form = OpenVINOForm(vit, normalization=IMAGENET, folder=folder)
    batches = [BYTES[i : i + 1] for i in range(3)] * 8
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(form, batches))
    for image, logits in zip(batches, outputs, strict=True):
        assert_equal_logits(logits, vit(normalize(image, IMAGENET)))


@torch.inference_mode()
def test_returned_outputs_are_not_overwritten_by_later_calls(vit, folder):
    form = OpenVINOForm(vit, normalization=IMAGENET, folder=folder)
    first = form(BYTES[:1])
    copy = first.clone()
    form(BYTES[1:2])
    assert torch.equal(first, copy)
