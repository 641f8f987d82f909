import pytest
import torch
import transformers

from models import checkpoint
from models.errors import CheckpointError
from models.training.fitting.initialize import from_checkpoint, load_body

VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}
MIT = {
    "hidden_sizes": [8, 8, 8, 8],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 1, 1],
    "decoder_hidden_size": 8,
}
DINOV2 = {name: value for name, value in VIT.items() if name != "intermediate_size"}
BODIES = [
    (transformers.ViTModel, transformers.ViTConfig, VIT),
    (transformers.DeiTModel, transformers.DeiTConfig, VIT),
    (transformers.ViTMSNModel, transformers.ViTMSNConfig, VIT),
    (transformers.SiglipVisionModel, transformers.SiglipVisionConfig, VIT),
    (transformers.Dinov2Model, transformers.Dinov2Config, DINOV2),
    (transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig, DINOV2),
    (transformers.SegformerModel, transformers.SegformerConfig, MIT),
]


@pytest.mark.parametrize(("kind", "config", "sizes"), BODIES)
def test_a_checkpoint_without_a_head_can_start_a_run(tmp_path, perturb, kind, config, sizes):
    body = kind(config(**sizes)).eval()
    perturb(body)
    body.save_pretrained(tmp_path / "body")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "body")
    start = from_checkpoint(
        load_body(tmp_path / "body"), "classify", ("a", "b", "c"), image_size=None
    )
    pixels = torch.rand(1, 3, 32, 32) if kind is transformers.SegformerModel else None
    pixels = torch.rand(1, 3, 16, 16) if pixels is None else pixels
    with torch.no_grad():
        features = body(pixels).last_hidden_state
        actual = start.network.eval().classify(pixels).embedding
    if kind is transformers.SiglipVisionModel:
        expected = features.mean(1)
    else:
        expected = features.mean((2, 3)) if features.ndim == 4 else features[:, 0]
    if config in (transformers.Dinov2Config, transformers.Dinov2WithRegistersConfig):
        registers = getattr(body.config, "num_register_tokens", 0)
        expected = torch.cat([expected, features[:, 1 + registers :].mean(1)], dim=1)
    assert torch.allclose(actual, expected, atol=1e-5)
    assert not start.network(pixels).any()


@pytest.mark.parametrize("folder", ["with text", "vision", "vision of transformers 4"])
@torch.no_grad()
def test_the_vision_model_of_siglip_can_start_a_run(tmp_path, perturb, folder):
    text = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "vocab_size": 9}
    config = transformers.SiglipConfig(vision_config=VIT, text_config=text)
    model = transformers.SiglipModel(config).eval()
    perturb(model)
    saved = model if folder == "with text" else model.vision_model
    saved.save_pretrained(tmp_path)
    if folder == "vision of transformers 4":
        (tmp_path / "model.safetensors").unlink()
        tensors = {f"vision_model.{name}": t for name, t in model.vision_model.state_dict().items()}
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    start = from_checkpoint(load_body(tmp_path), "classify", ("a", "b", "c"), image_size=None)
    pixels = torch.rand(1, 3, 16, 16)
    expected = model.vision_model(pixels).last_hidden_state.mean(1)
    actual = start.network.eval().classify(pixels).embedding
    assert torch.allclose(actual, expected, atol=1e-5)
    assert start.preprocessing.processor == "SiglipImageProcessor"


def test_a_checkpoint_with_a_head_is_loaded_unchanged():
    loaded = load_body(checkpoint.bundled("classify"))
    assert loaded.name == "shapes-vit"
    assert len(loaded.labels) == 6


def test_a_checkpoint_that_lacks_more_than_a_head_is_refused(tmp_path):
    transformers.ViTModel(transformers.ViTConfig(**VIT)).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        text.replace('"num_hidden_layers": 1', '"num_hidden_layers": 2')
    )
    with pytest.raises(CheckpointError, match="missing keys"):
        load_body(tmp_path)
