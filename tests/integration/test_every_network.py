"""Every architecture and option, from an untrained network to the output of the engine."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.engine.engine import TorchEngine
from app.engine.interface import ClassifyInput, SegmentInput
from models import checkpoint
from models.checkpoint import Checkpoint
from models.explain import attention_maps, explain
from models.layers.patch_embedding import ORDERED, PATCH_EMBEDDINGS
from models.layers.positions import KINDS
from models.preprocessing import Preprocessing, normalize
from models.registry import (
    ARCHITECTURES,
    SEGFORMER_SIZES,
    VIT_SIZES,
    architecture_of,
    segformer_config,
    vit_config,
)
from models.runtimes.optimize import optimize
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.training.data.examples import Batch
from models.training.fitting.objective import Learner
from models.training.fitting.recipe import Recipe, optimizer_for
from models.training.step import Loop
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

SIDE = 64
LABELS = ("cat", "dog", "neither")
SMALL = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "mlp_size": 32, "num_labels": 3}
SMALL |= {"image_size": (SIDE, SIDE), "patch_size": 16}
STAGES = SegformerConfig(
    depths=(1, 1, 1, 1), hidden_sizes=(8, 8, 16, 24), decoder_hidden_size=16, num_labels=3,
    num_heads=(1, 1, 2, 3),
)  # fmt: skip
OPTIONS = (
    [{"patch_embedding": kind} for kind in PATCH_EMBEDDINGS]
    + [{"patch_embedding": kind, "patch_order": "channels_last"} for kind in ORDERED]
    + [{"positions": kind} for kind in KINDS]
    + [
        {"positions": positions, "pooling": pooling, "attention": "axial"}
        for positions in KINDS
        for pooling in ("class", "mean")
        if positions != "relative"
    ]
    + [
        {"pooling": "mean"},
        {"pooling": "mean", "positions": "relative"},
        {"pooling": "class_mean"},
        {"pooling": "class_mean", "mlp": "swiglu", "num_registers": 2, "antialias": True},
        {"pooling": "class_mean", "mlp_size": 48},  # DINOv2 of transformers
        {"pooling": "class_mean", "mlp_size": 48, "num_registers": 1, "antialias": True},
        {"pooling": "class_mean", "head": "mlp"},
        {"num_registers": 3},
        {"num_registers": 3, "attention": "axial"},
        {"mlp": "swiglu"},
        {"head": "mlp"},
        {"num_heads": 1},
        {"num_heads": 2, "head_dim": 20},
        {"distillation_token": True},
        {"distillation_token": True, "distillation_head": True},
        {"distillation_token": True, "distillation_head": True, "head": "mlp"},
    ]
)
SEGMENTERS = [{}, {"attention": "axial"}, {"mlp": "swiglu"}]


def networks():
    for options in OPTIONS:
        name = "-".join(str(value) for value in options.values())
        yield pytest.param(lambda o=options: ViT(ViTConfig(**SMALL | o)), id=f"vit-{name}")
    for options in SEGMENTERS:
        name = "-".join(["vit-segmenter", *options.values()])
        yield pytest.param(lambda o=options: ViTSegmenter(ViTSegmenterConfig(**SMALL | o)), id=name)
    yield pytest.param(lambda: Segformer(STAGES), id="segformer")
    aligned = replace(STAGES, aligned_upsampling=True, norm_eps=1e-6)
    yield pytest.param(lambda: Segformer(aligned), id="segformer-aligned")
    yield pytest.param(lambda: SegformerClassifier(STAGES), id="mit")


def published():
    """The published sizes; the largest networks need gigabytes and minutes."""
    for name in VIT_SIZES:
        marks = [] if name == "Ti" else [pytest.mark.slow, pytest.mark.timeout(900)]
        sizes = {"image_size": (SIDE, SIDE), "num_labels": 3}
        yield pytest.param(
            lambda n=name, s=sizes: ViT(vit_config(f"{n}/16", **s)), id=f"vit-{name}", marks=marks
        )
    for name, kind in itertools.product(SEGFORMER_SIZES, (Segformer, SegformerClassifier)):
        marks = [] if name == "B0" else [pytest.mark.slow, pytest.mark.timeout(900)]
        yield pytest.param(
            lambda n=name, k=kind: k(segformer_config(n, num_labels=3)),
            id=f"{kind.__name__}-{name}",
            marks=marks,
        )
    yield pytest.param(
        lambda: ViTSegmenter(ViTSegmenterConfig()),
        id="vit-segmenter-article",
        marks=[pytest.mark.slow, pytest.mark.timeout(900)],
    )


def scenes(task):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)
    size = (4,) if task == "classify" else (4, SIDE, SIDE)
    truth = torch.randint(3, size, generator=generator)
    return Batch(images, truth if task == "classify" else truth.to(torch.uint8))


@pytest.mark.parametrize("build", [*networks(), *published()])
def test_every_network_can_be_trained_saved_optimised_served_and_explained(build, tmp_path):
    torch.manual_seed(0)
    untrained = build()
    architecture, preprocessing = architecture_of(untrained), Preprocessing(size=(SIDE, SIDE))
    batch = scenes(architecture.task)

    network = trained(untrained, preprocessing, batch)
    saved = Checkpoint(network, LABELS, preprocessing, architecture.task)
    checkpoint.save(saved, tmp_path / "saved")
    loaded = checkpoint.load(tmp_path / "saved")
    assert architecture_of(loaded.network) is architecture
    assert loaded.network.config == network.config
    pixels = normalize(batch.images, preprocessing)
    with torch.inference_mode():
        logits = loaded.network(pixels)
        assert torch.equal(logits, network(pixels))
        form = optimize(loaded.network, normalization=preprocessing)
        scale = max(1.0, logits.abs().max().item())
        assert (form(batch.images) - logits).abs().max() <= 2e-5 * scale

    served = serve(tmp_path / "saved", architecture.task, batch.images.numpy())
    assert all(np.array_equal(*pair) for pair in zip(served, expected_outputs(logits), strict=True))

    explanation = explain(loaded.network, pixels)
    torch.testing.assert_close(explanation.logits, logits, atol=2e-5 * scale, rtol=0)
    assert explanation.relevance.shape[0] == len(explanation.attention_distance[0]) == 4
    assert len(attention_maps(loaded.network, pixels)) == len(explanation.attention_distance)


def trained(network, preprocessing, batch):
    """The network after one training step, which must change every parameter."""
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    loop = Loop(learner := Learner(network, preprocessing), optimizer_for(learner, Recipe()))
    assert loop.step(batch) > 0
    unchanged = {n for n, tensor in network.named_parameters() if torch.equal(tensor, before[n])}
    # softmax cancels the bias of the keys
    assert {name.rsplit(".", 2)[-2] for name in unchanged} <= {"key"}
    return loop.result()


def serve(folder, task, images):
    """The engine's output for each image: its best label, or its label map."""
    engine = TorchEngine(str(folder), task=task, device="cpu")
    engine.load()
    if task == "classify":
        outputs = engine.run([ClassifyInput(image, 1) for image in images]).outputs
        return [output.indices for output in outputs]
    outputs = engine.run([SegmentInput(image, (SIDE, SIDE)) for image in images]).outputs
    return [output.labels for output in outputs]


def expected_outputs(logits):
    """The same from the logits of the plain network."""
    if logits.ndim == 2:
        return [[int(image.argmax())] for image in logits]
    size = (SIDE, SIDE)
    resized = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    return list(resized.argmax(1).numpy())


def test_every_architecture_is_tested():
    built = [parameter.values[0]() for parameter in networks()]
    saved_as_vit = {"ViTMSNForImageClassification"}  # the same network
    assert {architecture_of(network).name for network in built} | saved_as_vit == {
        architecture.name for architecture in ARCHITECTURES
    }
