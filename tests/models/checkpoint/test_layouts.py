"""SigLIP and ViTMSN of transformers: the same pixels and logits, in every form."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from models.checkpoint import Checkpoint, CheckpointError, load, save
from models.preprocessing import Preprocessing, fit, normalize
from models.runtimes.openvino import OpenVINOForm
from models.runtimes.optimize import optimize
from models.vit import ViT, ViTConfig

LABELS = {0: "circle", 1: "square", 2: "star"}
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "image_size": 36,  # a multiple of no patch size: some pixels are cut off
    "patch_size": 8,
}
PHOTOS = ((53, 37), (64, 48), (41, 90))  # width and height
POSITIONS = "vision_model.embeddings.position_embedding.weight"
PATCH_BIAS = "vision_model.embeddings.patch_embedding.bias"


def siglip(**fields):
    config = transformers.SiglipConfig(vision_config=SIZES | fields, id2label=LABELS)
    return transformers.SiglipForImageClassification(config).eval()


def vit_msn(**fields):
    config = transformers.ViTMSNConfig(**SIZES | fields, id2label=LABELS)
    return transformers.ViTMSNForImageClassification(config).eval()


MODELS = {
    "siglip": siglip,
    "siglip-gelu": lambda: siglip(hidden_act="gelu", layer_norm_eps=1e-3),
    "siglip-without-pooling": lambda: siglip(vision_use_head=False),
    "msn": vit_msn,
    "msn-no-qkv-bias": lambda: vit_msn(qkv_bias=False),
}
each_family = pytest.mark.parametrize("name", ["siglip", "msn"])


@pytest.fixture
def written(tmp_path, perturb):
    """Write a model of MODELS with random weights: the folder and the model."""

    def write(name):
        model = MODELS[name]()
        perturb(model)
        model.save_pretrained(tmp_path / "theirs")
        processor = transformers.SiglipImageProcessorPil(size={"height": 36, "width": 36})
        processor.save_pretrained(tmp_path / "theirs")
        return tmp_path / "theirs", model

    return write


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_logits_are_those_of_transformers(name, written, assert_equal_logits):
    folder, model = written(name)
    loaded = load(folder)
    pixels = torch.randn(2, 3, 36, 36)
    assert_equal_logits(loaded.network(pixels), model(pixels).logits)
    assert loaded.labels == tuple(LABELS.values())
    assert not loaded.warnings


@each_family
@pytest.mark.parametrize("size", [(36, 36), (48, 48), (45, 70), (16, 64), (97, 65)])
@torch.no_grad()
def test_the_positions_of_another_size_are_resampled_as_in_transformers(
    name, size, written, assert_equal_logits
):
    folder, model = written(name)
    pixels = torch.randn(2, 3, *size)
    expected = model(pixels, interpolate_pos_encoding=True).logits
    network = load(folder).network
    assert_equal_logits(network(pixels), expected)
    assert_equal_logits(optimize(network)(pixels), expected)


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_a_photo_has_their_pixels_and_each_form_their_logits(
    name, written, tmp_path, assert_equal_logits
):
    folder, model = written(name)
    loaded = load(folder)
    processor = transformers.SiglipImageProcessorPil.from_pretrained(folder)
    generator = np.random.default_rng(0)
    images = [
        Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))
        for width, height in PHOTOS
    ]
    expected = processor(images, return_tensors="pt").pixel_values.float()
    fitted = np.stack([np.array(fit(image, loaded.preprocessing)) for image in images])
    integers = torch.from_numpy(fitted)
    assert torch.equal(normalize(integers, loaded.preprocessing), expected)
    logits = model(expected).logits
    folded = {"normalization": loaded.preprocessing}
    assert_equal_logits(optimize(loaded.network, **folded)(integers), logits)
    form = OpenVINOForm(loaded.network, **folded, folder=tmp_path / "openvino")
    assert_equal_logits(form(integers), logits)
    half = optimize(loaded.network, dtype=torch.bfloat16, **folded)(integers)
    assert (half - logits).abs().max() < 0.05 * logits.abs().max()


@torch.no_grad()
def test_the_embedding_of_siglip_is_the_mean_of_its_patches(written, assert_equal_logits):
    folder, model = written("siglip")
    pixels = torch.randn(2, 3, 36, 36)
    expected = model.vision_model(pixels).last_hidden_state.mean(dim=1)
    assert_equal_logits(load(folder).network.classify(pixels).embedding, expected)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_transformers_computes_the_logits_of_a_saved_copy(
    name, written, tmp_path, assert_equal_logits
):
    folder, model = written(name)
    loaded = load(folder)
    save(loaded, tmp_path / "ours")
    auto = transformers.AutoModelForImageClassification
    copy, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    pixels = torch.randn(2, 3, 36, 36)
    assert_equal_logits(copy.eval()(pixels).logits, model(pixels).logits)
    again = load(tmp_path / "ours")
    assert torch.equal(again.network(pixels), loaded.network(pixels))
    assert again.preprocessing == loaded.preprocessing
    assert again.network.config == loaded.network.config


@each_family
@torch.no_grad()
def test_a_state_dict_saved_directly_is_loaded(name, written, assert_equal_logits):
    folder, model = written(name)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    pixels = torch.randn(2, 3, 36, 36)
    assert_equal_logits(load(folder).network(pixels), model(pixels).logits)


@pytest.mark.parametrize("prefix", ["encoder.", "vit.encoder."])
@torch.no_grad()
def test_the_encoder_of_a_vit_msn_has_the_names_of_both_versions(
    prefix, written, assert_equal_logits
):
    folder, model = written("msn")

    def rename(tensors):
        for name in list(tensors):
            bare = name.removeprefix("vit.")
            if bare.startswith("encoder."):
                tensors[prefix + bare.removeprefix("encoder.")] = tensors.pop(name)

    change_tensors(folder, rename)
    pixels = torch.randn(2, 3, 36, 36)
    assert_equal_logits(load(folder).network(pixels), model(pixels).logits)


def test_a_parameter_of_a_vit_msn_under_both_names_is_refused(written):
    folder, _ = written("msn")
    name = "encoder.layer.0.output.dense.bias"

    def double(tensors):
        tensors[name] = torch.ones(24)
        tensors[f"vit.{name}"] = torch.zeros(24)

    change_tensors(folder, double)
    with pytest.raises(CheckpointError, match=f"unexpected keys: {name}$"):
        load(folder)


@torch.no_grad()
def test_the_pooling_and_the_text_model_of_siglip_are_not_read(written):
    folder, _ = written("siglip")
    pixels = torch.randn(1, 3, 36, 36)
    before = load(folder).network(pixels)
    leftovers = ("text_model.head.bias", "logit_scale", "logit_bias", "vision_model.head.more")
    change_tensors(folder, lambda tensors: tensors.update({n: torch.ones(3) for n in leftovers}))
    assert torch.equal(load(folder).network(pixels), before)
    change_tensors(folder, lambda tensors: tensors.update({"vision_model.gate": torch.ones(3)}))
    with pytest.raises(CheckpointError, match=r"unexpected keys: vision_model\.gate$"):
        load(folder)


def test_patches_without_a_bias_are_refused(written):
    folder, _ = written("siglip")
    change_tensors(folder, lambda tensors: tensors.pop(PATCH_BIAS))
    with pytest.raises(CheckpointError, match=f"missing keys: {PATCH_BIAS}$"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (POSITIONS, torch.ones(())),
        (POSITIONS, torch.ones(1, 16, 24)),
        (POSITIONS, torch.ones(0, 24)),
        ("vision_model.embeddings.patch_embedding.weight", torch.ones(())),
        ("vision_model.embeddings.patch_embedding.weight", torch.ones(2**40, 0)),
        (PATCH_BIAS, torch.ones(2, 24)),
    ],
)
def test_a_tensor_of_another_shape_is_refused_by_its_name(name, tensor, written):
    folder, _ = written("siglip")

    def spoil(tensors):
        tensors[name] = tensor

    change_tensors(folder, spoil)
    with pytest.raises(CheckpointError, match=f"shapes do not match config.json: {name} is"):
        load(folder)


@pytest.mark.parametrize("section", [[], "small", 3, True, [["a"]]])
def test_a_vision_config_of_another_type_is_refused(section, written):
    folder, _ = written("siglip")
    change(folder, vision_config=section)
    with pytest.raises(CheckpointError, match=r"vision_config is .*, not a JSON object"):
        load(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_channels": 0}, "num_channels is 0, not an integer from 1 to 1024"),
        ({"hidden_size": []}, r"hidden_size is \[\], not an integer"),
        ({"attention_dropout": {}}, "attention_dropout is {}, not a number"),
        ({"num_attention_heads": 5}, "24 is not a multiple of 5 heads"),
        ({"hidden_act": "sine"}, "unknown activation 'sine'"),
    ],
)
def test_a_wrong_value_of_the_vision_config_is_refused_by_its_name(fields, message, written):
    folder, _ = written("siglip")
    change(folder, vision_config=SIZES | fields)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_naflex_is_refused_with_what_to_use(written):
    folder, _ = written("siglip")
    change(folder, model_type="siglip2", architectures=["Siglip2ForImageClassification"])
    message = r"Siglip2ForImageClassification .*NaFlex.* fixed resolution.* model type is siglip\)"
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@each_family
def test_missing_preprocessing_has_the_defaults_of_the_family(name, written):
    folder, _ = written(name)
    (folder / "preprocessor_config.json").unlink()
    loaded = load(folder)
    assert loaded.preprocessing_assumed
    assert loaded.preprocessing.processor == (
        "SiglipImageProcessor" if name == "siglip" else "ViTImageProcessor"
    )


@pytest.mark.parametrize(
    "fields", [{"dropout": 0.1}, {"qkv_bias": False}, {"image_size": (32, 48)}, {"head": "mlp"}]
)
def test_a_network_that_siglip_cannot_describe_keeps_the_name_of_this_project(fields, tmp_path):
    config = ViTConfig(
        image_size=(32, 32),
        patch_size=8,
        hidden_size=24,
        num_layers=1,
        num_heads=3,
        mlp_size=32,
        num_labels=3,
        pooling="mean",
    )
    labels, folder = tuple(LABELS.values()), tmp_path / "ours"
    network = ViT(replace(config, **fields)).eval()
    save(Checkpoint(network, labels, Preprocessing(), "classify"), folder)
    document = json.loads((folder / "config.json").read_text())
    assert document["architectures"] == ["PatchserveViT"]
    assert load(folder).network.config == network.config
