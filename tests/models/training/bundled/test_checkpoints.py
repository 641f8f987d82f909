"""The checkpoints that ship: quality on scenes they have not seen, size, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from models.checkpoint import Checkpoint, bundled, load
from models.preprocessing import normalize
from models.training import evaluate
from models.training.bundled.metrics import answers, measure, resized
from models.training.scenes.scene import LABELS, UNSEEN_SEED, Scene, draw_scene
from models.training.scenes.shapes import KINDS

SAMPLES = Path(__file__).parents[3] / "samples"
FILES = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
MOST_BYTES = 6_000_000
REFERENCES = {
    "classify": transformers.ViTForImageClassification,
    "segment": transformers.SegformerForSemanticSegmentation,
}


@pytest.fixture(scope="module")
def classifier() -> Checkpoint:
    return load(bundled("classify"))


@pytest.fixture(scope="module")
def segmenter() -> Checkpoint:
    return load(bundled("segment"))


@pytest.fixture(scope="module")
def unseen() -> list[Scene]:
    return [draw_scene(UNSEEN_SEED + 1, index) for index in range(400)]


def test_both_folders_are_complete_and_small():
    folders = bundled("classify"), bundled("segment")
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) <= MOST_BYTES


def test_classifier_names_the_largest_shape(classifier, unseen):
    assert classifier.labels == KINDS
    assert measure(classifier, unseen).accuracy >= 0.97


def test_segmenter_finds_every_shape(segmenter, unseen):
    assert segmenter.labels == LABELS
    assert measure(segmenter, unseen[:200]).mean_iou >= 0.90


@pytest.mark.slow
def test_quality_on_two_thousand_unseen_scenes():
    quality = evaluate(bundled("classify"), bundled("segment"), count=2_000)
    assert quality.accuracy >= 0.97
    assert quality.mean_iou >= 0.90


def test_samples_come_from_a_seed_of_their_own_and_are_answered_rightly(classifier, segmenter):
    truths = json.loads((SAMPLES / "truth.json").read_text())
    scenes = [draw_scene(truth["seed"], truth["index"]) for truth in truths.values()]
    assert {truth["seed"] for truth in truths.values()}.isdisjoint({1, UNSEEN_SEED})
    kinds = [KINDS[int(answer[0])] for answer in answers(classifier, scenes)]
    assert kinds == [truth["label"] for truth in truths.values()]
    for scene, label_map in zip(scenes, answers(segmenter, scenes), strict=True):
        assert (label_map == scene.label_map).mean() > 0.95


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_transformers_loads_the_folder_and_agrees(task, unseen):
    ours = load(bundled(task))
    reference = REFERENCES[task].from_pretrained(bundled(task)).eval()
    pixels = torch.from_numpy(np.stack([resized(scene, ours) for scene in unseen[:4]]))
    pixels = normalize(pixels, ours.preprocessing)
    with torch.no_grad():
        difference = ours.network(pixels) - reference(pixels).logits
    assert difference.abs().max() < 1e-3
    assert tuple(reference.config.id2label.values()) == ours.labels
