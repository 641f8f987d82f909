import json
from itertools import product

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from models import checkpoint
from models.checkpoint.config import parse
from models.explain.recording import record
from models.explain.relevance import gradient_relevance
from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, fit, normalize
from models.registry import ARCHITECTURES, dinov2_mlp_ratio, dinov2_mlp_size
from models.runtimes.optimize import optimize
from models.training.fitting.initialize import from_checkpoint
from models.vit import ViT

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "mlp_ratio": 2,
    "image_size": 40,
    "patch_size": 8,
    "num_labels": 5,
}
CASES = {
    "plain": (transformers.Dinov2ForImageClassification, {}),
    "swiglu": (transformers.Dinov2ForImageClassification, {"use_swiglu_ffn": True}),
    "no bias": (transformers.Dinov2ForImageClassification, {"qkv_bias": False}),
    "registers": (transformers.Dinov2WithRegistersForImageClassification, {}),
    "giant": (
        transformers.Dinov2WithRegistersForImageClassification,
        {"use_swiglu_ffn": True, "num_register_tokens": 2},
    ),
}
SIZES = [(40, 40), (24, 24), (43, 37), (65, 90), (8, 8)]  # trained, coarser, odd, finer, one patch
IMAGENET = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
PHOTOS = [(53, 37), (64, 48), (41, 90), (200, 301)]


def reference(case, perturb):
    """Return a small DINOv2 of transformers, with layer scales and registers far from the usual."""
    kind, options = CASES[case]
    model = kind(kind.config_class(**{**SMALL, **options})).eval()
    perturb(model)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "lambda1" in name:
                tensor.copy_(0.3 + torch.rand(tensor.shape))
            elif name.endswith("register_tokens"):
                tensor.copy_(0.5 * torch.randn(tensor.shape))
    return model


@pytest.fixture(params=CASES)
def model(request, perturb):
    """Each of the small models in turn."""
    torch.manual_seed(0)
    return reference(request.param, perturb)


@pytest.fixture
def folder(perturb, tmp_path):
    """The folder of a small model with registers and SwiGLU."""
    torch.manual_seed(0)
    reference("giant", perturb).save_pretrained(tmp_path / "giant")
    return tmp_path / "giant"


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_the_logits_are_those_of_transformers_at_each_size(
    size, model, tmp_path, assert_equal_logits
):
    model.save_pretrained(tmp_path)
    network, pixels = checkpoint.load(tmp_path).network, torch.randn(2, 3, *size)
    expected = model(pixels).logits
    assert_equal_logits(network(pixels), expected)
    assert_equal_logits(optimize(network)(pixels), expected)


@torch.no_grad()
def test_a_state_dict_of_transformers_5_is_loaded(model, tmp_path, assert_equal_logits):
    model.save_pretrained(tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    pixels = torch.randn(2, 3, 40, 40)
    assert_equal_logits(checkpoint.load(tmp_path).network(pixels), model(pixels).logits)


@torch.no_grad()
def test_transformers_computes_the_logits_of_a_saved_copy(model, tmp_path, assert_equal_logits):
    model.save_pretrained(tmp_path / "theirs")
    checkpoint.save(checkpoint.load(tmp_path / "theirs"), tmp_path / "ours")
    again, loading = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    pixels = torch.randn(2, 3, 30, 50)
    assert_equal_logits(again.eval()(pixels).logits, model(pixels).logits)
    assert_equal_logits(checkpoint.load(tmp_path / "ours").network(pixels), model(pixels).logits)


@torch.no_grad()
def test_the_embedding_is_what_the_head_reads(model, tmp_path):
    model.save_pretrained(tmp_path)
    read = []
    model.classifier.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    network, pixels = checkpoint.load(tmp_path).network, torch.randn(2, 3, 43, 37)
    model(pixels)
    for form in (network, optimize(network)):
        embedding = form.classify(pixels).embedding
        assert embedding.shape == (2, 48)
        torch.testing.assert_close(embedding, read[0], atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_bfloat16_logits_are_close(model, tmp_path):
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 43, 37)
    ours = optimize(checkpoint.load(tmp_path).network, dtype=torch.bfloat16)(pixels)
    expected = model(pixels).logits
    assert (ours - expected).abs().max() < 0.05 * expected.abs().max()


def test_weights_of_half_precision_are_folded_in_full_precision(
    perturb, tmp_path, assert_equal_logits
):
    model = reference("plain", perturb).half()
    model.save_pretrained(tmp_path)
    loaded, pixels = checkpoint.load(tmp_path), torch.randn(2, 3, 40, 40)
    assert loaded.stored_dtypes == ("float16",)
    with torch.no_grad():
        assert_equal_logits(loaded.network(pixels), model.float()(pixels).logits)


@pytest.mark.parametrize("size", PHOTOS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}, **IMAGENET},
        {"size": 41, "crop_size": 40, "resample": 2},
        {"do_center_crop": False, "size": {"height": 40, "width": 56}},
    ],
)
def test_the_pixels_are_those_of_the_bit_image_processor(size, options, perturb, tmp_path):
    reference("plain", perturb).save_pretrained(tmp_path)
    processor = transformers.BitImageProcessorPil(**options)
    processor.save_pretrained(tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert not loaded.preprocessing_assumed
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    photo = Image.fromarray(noise)
    image = torch.from_numpy(np.asarray(fit(photo, loaded.preprocessing)).copy())
    expected = processor(photo, return_tensors="pt").pixel_values
    assert torch.equal(normalize(image[None], loaded.preprocessing), expected)
    checkpoint.save(loaded, tmp_path / "saved")
    assert checkpoint.load(tmp_path / "saved").preprocessing == loaded.preprocessing


def test_fields_that_config_json_lacks_have_the_defaults_of_transformers():
    for architecture in ARCHITECTURES:
        if not architecture.name.startswith("Dinov2"):
            continue
        sizes = parse({"architectures": [architecture.name]}).sizes
        theirs = getattr(transformers, architecture.name).config_class()
        assert sizes.mlp_size == theirs.hidden_size * theirs.mlp_ratio
        for ours, name in architecture.fields.items():
            expected = getattr(theirs, name, None)
            if name == "image_size":
                assert sizes.image_size == (expected, expected)
            elif expected is not None:
                assert getattr(sizes, ours) == expected, name


@torch.no_grad()
def test_training_starts_from_its_logits_at_another_image_size(
    model, tmp_path, assert_equal_logits
):
    model.save_pretrained(tmp_path)
    loaded, pixels = checkpoint.load(tmp_path), torch.randn(2, 3, 24, 24)
    start = from_checkpoint(loaded, "classify", loaded.labels, image_size=24)
    assert start.network.config.grid == (3, 3)
    assert not start.fresh
    assert_equal_logits(start.network.eval()(pixels), model(pixels).logits)


def test_relevance_has_a_part_for_each_patch_and_none_for_registers(folder):
    network = checkpoint.load(folder).network
    recording = record(network, torch.randn(2, 3, 43, 37), gradients=True)
    relevance = gradient_relevance(network, recording)
    assert relevance.shape == (2, 5, 4)
    torch.testing.assert_close(relevance.sum((1, 2)), torch.ones(2))


@pytest.mark.parametrize("kind", [kind for kind, _ in (CASES["plain"], CASES["registers"])])
@pytest.mark.parametrize(
    ("width", "layers", "heads", "swiglu"),
    [(384, 12, 6, False), (768, 12, 12, False), (1024, 24, 16, False), (1536, 40, 24, True)],
    ids=["small", "base", "large", "giant"],
)
def test_a_published_size_has_the_parameters_of_transformers_without_layer_scale(
    kind, width, layers, heads, swiglu
):
    config = kind.config_class(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        use_swiglu_ffn=swiglu,
        patch_size=14,
        image_size=518,
    )
    document = json.loads(config.to_json_string(use_diff=False))
    with torch.device("meta"):
        theirs = kind(config).named_parameters()
        ours = ViT(parse(document | {"architectures": [kind.__name__]}).sizes).parameters()
    read = [p.numel() for name, p in theirs if not name.endswith(("lambda1", "mask_token"))]
    assert sum(p.numel() for p in ours) == sum(read)


def test_a_ratio_is_found_for_each_size_of_an_mlp():
    for width, ratio, mlp in product((8, 24, 768, 1536), range(1, 9), ("plain", "swiglu")):
        size = dinov2_mlp_size(width, ratio, mlp)
        found = dinov2_mlp_ratio(width, size, mlp)
        assert dinov2_mlp_size(width, found, mlp) == size
    assert dinov2_mlp_size(1536, 4, "swiglu") == 4096  # of the published giant
    assert dinov2_mlp_ratio(24, 25, "plain") is None


def test_sizes_that_transformers_cannot_express_are_saved_under_a_name_of_this_project(
    folder, tmp_path
):
    change(folder, image_size=[20, 164])  # 2 x 20 positions; DINOv2 of transformers needs a square
    tensors = load_file(folder / "model.safetensors")
    name = "dinov2_with_registers.embeddings.position_embeddings"
    save_file(tensors | {name: torch.randn(1, 41, 24)}, folder / "model.safetensors")
    loaded = checkpoint.load(folder)
    checkpoint.save(loaded, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["PatchserveViT"]
    again, pixels = checkpoint.load(tmp_path / "saved"), torch.randn(1, 3, 20, 164)
    assert again.network.config == loaded.network.config
    assert torch.equal(again.network(pixels), loaded.network(pixels))
