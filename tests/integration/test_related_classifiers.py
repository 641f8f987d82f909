"""Classifiers that are ViTs under other names, in the real process and as the start of a run."""

import json
from io import BytesIO

import httpx
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from typer.testing import CliRunner

from app.__main__ import cli
from models import checkpoint

LABELS = {0: "circle", 1: "square", 2: "star"}
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
CONFIGS = {
    transformers.SiglipForImageClassification: lambda: transformers.SiglipConfig(
        vision_config=SIZES, id2label=LABELS
    ),
    transformers.ViTMSNForImageClassification: lambda: transformers.ViTMSNConfig(
        **SIZES, id2label=LABELS
    ),
    transformers.Dinov2WithRegistersForImageClassification: lambda: (
        transformers.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=2, id2label=LABELS)
    ),
}
PROCESSOR = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})


@pytest.fixture(params=CONFIGS, ids=lambda kind: kind.__name__)
def folder(request, tmp_path):
    """The folder of a small checkpoint of transformers, whose logits are not all alike."""
    model = request.param(CONFIGS[request.param]())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) / max(parameter[0].numel(), 10) ** 0.5)
    model.save_pretrained(tmp_path / "theirs")
    PROCESSOR.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.fixture
def image():
    noise = np.random.default_rng(3).integers(0, 256, (37, 53, 3), np.uint8)
    return Image.fromarray(noise)


def png(image):
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def reference(folder, image):
    """The logits (3,) of transformers, and the embedding (24,) or (48,) that they come from."""
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    pixels = PROCESSOR(image, return_tensors="pt").pixel_values
    with torch.no_grad():
        if hasattr(model, "vision_model"):
            embedding = model.vision_model(pixels).last_hidden_state.mean(1)
        elif hasattr(model, "vit"):
            embedding = model.vit(pixels).last_hidden_state[:, 0]
        else:  # class token, two registers, patches
            tokens = model.dinov2_with_registers(pixels).last_hidden_state
            embedding = torch.cat([tokens[:, 0], tokens[:, 3:].mean(1)], dim=1)
        return model(pixels).logits[0], embedding[0]


@pytest.mark.parametrize(
    ("flags", "tolerance"),
    [
        pytest.param(("--runtime", "torch"), 1e-5, id="torch"),
        pytest.param(("--dtype", "bfloat16"), 0.05, id="bfloat16"),
        pytest.param(("--runtime", "openvino"), 1e-5, id="openvino", marks=pytest.mark.slow),
    ],
)
def test_the_service_gives_the_scores_and_embeddings_of_transformers(
    flags, tolerance, launch, folder, image
):
    logits, embedding = reference(folder, image)
    with launch("--classifier", folder, "--segmenter", "none", *flags) as service:
        scores = httpx.post(f"{service.url}/classify", content=png(image)).json()["predictions"]
        embedded = httpx.post(f"{service.url}/classify?output=embedding", content=png(image))
        explained = httpx.post(
            f"{service.url}/explain", content=png(image), headers={"Accept": "application/json"}
        ).json()
    expected = logits.softmax(0)
    by_label = {each["label"]: each["score"] for each in scores}
    for index, label in LABELS.items():
        assert by_label[label] == pytest.approx(expected[index].item(), abs=tolerance)
    difference = torch.tensor(embedded.json()["embedding"]) - embedding
    assert difference.abs().max() <= tolerance * max(1, embedding.abs().max())
    assert np.shape(explained["relevance"]) == (4, 4)
    assert np.ptp(explained["relevance"]) > 0
    assert explained["predictions"][0]["label"] == scores[0]["label"]


def test_a_run_that_starts_from_it_gives_a_folder_of_transformers(
    folder, labelled_folder, tmp_path
):
    data, out = labelled_folder(tmp_path / "products", 4), tmp_path / "out"
    flags = ["--epochs", "1", "--batch-size", "4", "--image-size", "40"]
    command = ["train", "--from", folder, "--data", data, *flags, "--out", out]
    ended = CliRunner().invoke(cli, [str(word) for word in command])
    assert ended.exit_code == 0, ended.output
    loaded = checkpoint.load(out)
    assert loaded.labels == ("cross", "disc", "stripes")
    assert loaded.network.config.image_size == (40, 40)
    model = transformers.AutoModelForImageClassification.from_pretrained(out).eval()
    pixels = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        expected, logits = model(pixels).logits, loaded.network(pixels)
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=2e-5)
    names = json.loads((out / "config.json").read_text())["id2label"]
    assert names == {"0": "cross", "1": "disc", "2": "stripes"}
