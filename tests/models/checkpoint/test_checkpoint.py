import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from models.checkpoint import (
    Checkpoint,
    CheckpointError,
    bundled,
    load,
    name_of,
    preprocessor_config,
    save,
)
from models.preprocessing import Preprocessing
from models.segformer import Segformer, SegformerConfig
from models.vit import ViT, ViTConfig

LABELS = {0: "circle", 1: "square", 2: "star"}
VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
SEGFORMER = {
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 2, 1, 1],
    "num_attention_heads": [1, 2, 3, 4],
    "decoder_hidden_size": 16,
}
ARCHITECTURES = {
    transformers.ViTForImageClassification: VIT,
    transformers.DeiTForImageClassification: VIT,
    transformers.DeiTForImageClassificationWithTeacher: VIT,
    transformers.SegformerForSemanticSegmentation: SEGFORMER,
}
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=ARCHITECTURES, ids=lambda architecture: architecture.__name__)
def reference(request, perturb):
    """A small model of transformers, of each architecture in turn."""
    model = small(request.param)
    perturb(model)
    return model


def small(architecture):
    config = architecture.config_class(id2label=LABELS, **ARCHITECTURES[architecture])
    return architecture._from_config(config).eval()


@pytest.fixture
def folder(tmp_path):
    """The folder of a small checkpoint of patchserve."""
    network = ViT(
        ViTConfig(
            image_size=(32, 32),
            patch_size=8,
            hidden_size=24,
            num_layers=2,
            num_heads=3,
            mlp_size=32,
            num_labels=3,
        )
    )
    save(
        Checkpoint(network, tuple(LABELS.values()), Preprocessing(), "classify"), tmp_path / "ours"
    )
    return tmp_path / "ours"


def change(path: Path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(path: Path, change):
    save_file(change(load_file(path)), path)


@torch.no_grad()
def test_a_folder_saved_by_transformers_is_loaded(reference, tmp_path, assert_equal_logits):
    reference.save_pretrained(tmp_path)
    checkpoint = load(tmp_path)
    assert_equal_logits(checkpoint.network(PIXELS), reference(PIXELS).logits)
    assert checkpoint.labels == ("circle", "square", "star")
    assert checkpoint.name == tmp_path.name
    assert not checkpoint.network.training
    assert {p.dtype for p in checkpoint.network.parameters()} == {torch.float32}


@torch.no_grad()
def test_a_segmenter_with_one_label_gives_the_binary_masks_of_transformers(
    tmp_path, perturb, assert_equal_logits
):
    config = transformers.SegformerConfig(id2label={0: "road"}, **SEGFORMER)
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    perturb(model)
    ordered = model(PIXELS).logits.flatten().sort().values
    # half of the pixels are roads, and no logit is so near to 0 that rounding decides
    model.decode_head.classifier.bias -= ordered[len(ordered) // 2 - 1 :][:2].mean()
    model.save_pretrained(tmp_path / "theirs")
    checkpoint = load(tmp_path / "theirs")
    assert checkpoint.labels == ("background", "road")
    logits, theirs = checkpoint.network(PIXELS), model(PIXELS).logits
    assert_equal_logits(logits[:, 1:], theirs)
    assert torch.equal(logits.argmax(1) == 1, theirs[:, 0].sigmoid() > 0.5)
    assert 0 < (logits.argmax(1) == 1).float().mean() < 1
    save(checkpoint, tmp_path / "ours")
    assert torch.equal(load(tmp_path / "ours").network(PIXELS), logits)


def test_missing_preprocessing_is_assumed_with_a_warning(folder):
    assert load(folder).warnings == (
        "images become 224 x 224, but the network was trained for "
        "32 x 32, so its positions are resampled; set this size in preprocessor_config.json",
    )
    assert not load(folder).preprocessing_assumed
    (folder / "preprocessor_config.json").unlink()
    loaded = load(folder)
    assert loaded.preprocessing_assumed
    assert "the defaults of ViTImageProcessor are assumed" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("size", "warning"),
    [
        ({"size": 32}, None),
        ({"size": {"height": 32, "width": 48}}, "images become 48 x 32, but"),
        ({"do_resize": False}, "images keep their size, but"),
    ],
)
def test_a_size_that_is_not_the_networks_is_a_warning(folder, size, warning):
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    warnings = load(folder).warnings
    assert len(warnings) == (warning is not None)
    assert warning is None or warnings[0].startswith(warning)


@torch.no_grad()
def test_a_state_dict_saved_directly_from_transformers_is_loaded(
    reference, tmp_path, assert_equal_logits
):
    reference.config.architectures = [type(reference).__name__]
    reference.config.save_pretrained(tmp_path)
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    assert_equal_logits(load(tmp_path).network(PIXELS), reference(PIXELS).logits)


@torch.no_grad()
def test_transformers_loads_a_saved_checkpoint(reference, tmp_path, assert_equal_logits):
    reference.save_pretrained(tmp_path / "theirs")
    ours = load(tmp_path / "theirs")
    save(ours, tmp_path / "ours")
    model, report = type(reference).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert_equal_logits(ours.network(PIXELS), model.eval()(PIXELS).logits)
    assert model.config.id2label == LABELS
    assert load_file(tmp_path / "ours/model.safetensors").keys() == (
        load_file(tmp_path / "theirs/model.safetensors").keys()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_becomes_single_precision(dtype, tmp_path):
    reference = small(transformers.SegformerForSemanticSegmentation).to(dtype)
    reference.save_pretrained(tmp_path)
    state = load(tmp_path).network.state_dict()
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    assert {tensor.dtype for tensor in floats.values()} == {torch.float32}
    assert torch.equal(
        floats["decoder.head.weight"], reference.decode_head.classifier.weight.float()
    )


@pytest.mark.parametrize(
    ("network", "task"),
    [
        (
            ViT(
                ViTConfig(
                    image_size=(32, 48),
                    patch_size=8,
                    hidden_size=24,
                    num_layers=2,
                    num_heads=3,
                    mlp_size=32,
                    num_labels=3,
                    dropout=0.1,
                )
            ),
            "classify",
        ),
        (Segformer(SegformerConfig(depths=(1, 1, 1, 1), num_labels=3)), "segment"),
    ],
)
def test_a_checkpoint_is_loaded_as_it_was_saved(network, task, tmp_path):
    preprocessing = Preprocessing(
        processor=preprocessor_config.SEGFORMER, size=(96, 64), reduce_labels=True
    )
    saved = Checkpoint(
        network,
        ("a", "b", "c"),
        preprocessing,
        task,
        problem_type="multi_label_classification",
        name="out",
    )
    save(saved, tmp_path / "new" / "out")
    loaded = load(str(tmp_path / "new" / "out"))
    assert (loaded.labels, loaded.preprocessing) == (saved.labels, saved.preprocessing)
    assert (loaded.task, loaded.problem_type, loaded.name) == (
        task,
        "multi_label_classification",
        "out",
    )
    assert loaded.network.config == network.config
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name
    assert all(parameter.requires_grad for parameter in loaded.network.parameters())


def test_a_loaded_network_does_not_depend_on_its_files(folder):
    checkpoint = load(folder)
    expected = checkpoint.network(PIXELS)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\0" * weights.stat().st_size)
    shutil.rmtree(folder)
    assert torch.equal(checkpoint.network(PIXELS), expected)


def test_missing_batch_counters_are_0(tmp_path):
    network = Segformer(SegformerConfig(depths=(1, 1, 1, 1), num_labels=3))
    network.decoder.norm.num_batches_tracked.fill_(7)
    checkpoint = Checkpoint(network, ("a", "b", "c"), Preprocessing(), "segment")
    save(checkpoint, tmp_path)
    assert load(tmp_path).network.decoder.norm.num_batches_tracked == 7
    counter = "decode_head.batch_norm.num_batches_tracked"
    change_tensors(
        tmp_path / "model.safetensors",
        lambda tensors: {name: t for name, t in tensors.items() if name != counter},
    )
    assert load(tmp_path).network.decoder.norm.num_batches_tracked == 0


def test_the_error_lists_mismatched_shapes(folder):
    change(folder / "config.json", intermediate_size=40)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    message = str(caught.value)
    assert message.startswith("tensor shapes do not match config.json: ")
    assert "vit.encoder.layer.0.intermediate.dense.weight is [32, 24], not [40, 24]" in message
    assert "vit.encoder.layer.1.intermediate.dense.bias is [32], not [40]" in message


def test_a_wrong_depth_gives_missing_or_unexpected_keys(folder):
    change(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"unexpected keys: vit\.encoder\.layer\.1\."):
        load(folder)
    change(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"missing keys: vit\.encoder\.layer\.2\."):
        load(folder)


def test_quantized_weights_are_refused(folder):
    name = "vit.layernorm.weight"
    change_tensors(
        folder / "model.safetensors", lambda tensors: tensors | {name: tensors[name].char()}
    )
    with pytest.raises(CheckpointError, match=r"vit\.layernorm\.weight is torch\.int8"):
        load(folder)


def test_a_bare_backbone_is_refused(tmp_path):
    transformers.ViTModel(transformers.ViTConfig(**VIT)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"'ViTModel' .* is not supported"):
        load(tmp_path)
    change(tmp_path / "config.json", architectures=["ViTForImageClassification"])
    with pytest.raises(CheckpointError, match="a bare backbone cannot be served"):
        load(tmp_path)


def test_an_unknown_activation_is_refused(folder):
    change(folder / "config.json", hidden_act="softsign")
    with pytest.raises(CheckpointError, match=r"config\.json: unknown activation 'softsign'"):
        load(folder)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(missing, folder):
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        load(folder)


def test_without_a_preprocessor_config_the_model_type_decides(reference, tmp_path):
    reference.save_pretrained(tmp_path)
    processor = {
        "vit": preprocessor_config.VIT,
        "deit": preprocessor_config.DEIT,
        "segformer": preprocessor_config.SEGFORMER,
    }[reference.config.model_type]
    assert load(tmp_path).preprocessing == preprocessor_config.parse({}, processor)


def test_processor_config_takes_precedence_over_preprocessor_config(folder):
    nested = {"image_processor_type": "ViTImageProcessor", "size": {"height": 48, "width": 56}}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
    assert load(folder).preprocessing.size == (48, 56)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "Other"}))
    assert load(folder).preprocessing.size == (224, 224)


def test_the_error_names_the_invalid_json_file(folder):
    change(folder / "preprocessor_config.json", resample=9)
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: resample is 9, not"):
        load(folder)
    (folder / "processor_config.json").write_text('{"image_processor": [1]}')
    with pytest.raises(CheckpointError, match=r"\Aprocessor_config\.json: image_processor is not"):
        load(folder)


def test_saving_needs_as_many_labels_as_outputs(folder, tmp_path):
    with pytest.raises(CheckpointError, match="1 labels for 3 outputs of the network"):
        save(replace(load(folder), labels=("one",)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "source", ["no/such/folder", "./nothing", "/nothing/here", "vit", "", "a/b@", "../a/b"]
)
def test_a_source_that_is_neither_folder_nor_hub_id_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="neither an existing folder or file nor a Hub id"):
        load(source)


def test_a_path_object_is_never_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="neither an existing folder or file nor a Hub id"):
        load(Path("org/name"))


def test_an_existing_folder_takes_precedence_over_a_hub_id(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "org" / "name")
    assert load("org/name").name == "name"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("org/name", "name"),
        ("org/name@v1.0", "name"),
        ("org/name@refs/pr/1", "name"),
        ("/data/checkpoints/shapes", "shapes"),
        ("/data/checkpoints/shapes/", "shapes"),
        ("./shapes@2", "shapes@2"),
        (Path("/data/shapes@2"), "shapes@2"),
        (Path("a/b@2"), "b@2"),
        ("/data/shapes/../other", "other"),
    ],
)
def test_a_checkpoint_is_named_after_the_last_part_of_its_source(source, name):
    assert name_of(source) == name


def test_the_bundled_folders_are_in_the_package():
    assert bundled("classify").parts[-3:] == ("models", "bundled", "shapes-vit")
    assert bundled("segment").parts[-3:] == ("models", "bundled", "shapes-segformer")
