"""The bundled checkpoints: quality on unseen scenes, size, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from models.checkpoint import Checkpoint, bundled, load
from models.preprocessing import normalize
from models.training import evaluate
from models.training.bundled.evaluate import measured
from models.training.bundled.recipe import RECIPES, about_data
from models.training.data.loader import as_served
from models.training.data.scenes import DrawnScenes
from models.training.fitting.evaluate import predictions
from models.training.fitting.model_card import recipe_text
from models.training.scenes.scene import LABELS, UNSEEN_SEED
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
def unseen() -> dict[str, DrawnScenes]:
    """The same 400 scenes, of which segmenters use the first half."""
    scenes = DrawnScenes("classify", UNSEEN_SEED + 1, range(400))
    return {
        "classify": scenes,
        "segment": DrawnScenes("segment", scenes.seed, range(200), scenes.kept),
    }


def test_both_folders_are_complete_and_small():
    folders = bundled("classify"), bundled("segment")
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) <= MOST_BYTES


@pytest.mark.parametrize("task", RECIPES)
def test_the_model_cards_describe_data_and_recipe_as_the_code_does(task):
    card = (bundled(task) / "README.md").read_text(encoding="utf-8")
    assert recipe_text(RECIPES[task]) in card
    assert about_data(RECIPES[task].curriculum.scenes, seed=1) in card


def test_classifier_names_the_largest_shape(classifier, unseen):
    assert classifier.labels == KINDS
    assert measured(classifier, unseen["classify"]).accuracy >= 0.97


def test_segmenter_finds_every_shape(segmenter, unseen):
    assert segmenter.labels == LABELS
    assert measured(segmenter, unseen["segment"]).mean_iou >= 0.90


@pytest.mark.slow
def test_quality_on_two_thousand_unseen_scenes():
    quality = evaluate(bundled("classify"), bundled("segment"), count=2_000)
    assert quality.accuracy >= 0.97
    assert quality.mean_iou >= 0.90


def test_predictions_for_the_samples_are_correct(classifier, segmenter):
    truths = json.loads((SAMPLES / "truth.json").read_text()).values()
    (seed,) = {truth["seed"] for truth in truths}
    assert seed not in (1, UNSEEN_SEED)
    indices = [truth["index"] for truth in truths]
    scenes = DrawnScenes("classify", seed, indices)
    kinds = predictions(classifier.network, scenes, classifier.preprocessing, 8)
    assert [KINDS[int(kind[0])] for _, kind in kinds] == [truth["label"] for truth in truths]
    maps = DrawnScenes("segment", seed, indices)
    for truth, label_map in predictions(segmenter.network, maps, segmenter.preprocessing, 8):
        assert (label_map == truth).mean() > 0.95


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_transformers_loads_the_folder_and_agrees(task, unseen):
    ours = load(bundled(task))
    reference = REFERENCES[task].from_pretrained(bundled(task)).eval()
    examples = next(as_served(unseen[task], ours.preprocessing, 4))
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
    pixels = normalize(pixels, ours.preprocessing)
    with torch.no_grad():
        difference = ours.network(pixels) - reference(pixels).logits
    assert difference.abs().max() < 1e-3
    assert tuple(reference.config.id2label.values()) == ours.labels
