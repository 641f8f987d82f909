"""A measurement equals that of the run that trained the checkpoint."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from models import checkpoint
from models.checkpoint import CheckpointError, bundled, load, save
from models.preprocessing import Preprocessing
from models.training import evaluate_data, fit
from models.training.evaluation import evaluation as module
from models.training.evaluation.evaluation import batch_size_for
from models.training.fitting.plan import Plan
from models.vit import ViT

TINY = {"num_layers": "1", "hidden_size": "24", "num_heads": "3", "mlp_size": "24"}
LABELS = ("cross", "disc", "stripes", "a", "b", "c")


def last_row(run: Path) -> dict[str, str]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))[-1]


@pytest.fixture(scope="module")
def plan(labelled_folder, tmp_path_factory) -> Plan:
    """An epoch on 30 training and 6 held-out images, of the split of another seed than 1."""
    data = labelled_folder(tmp_path_factory.mktemp("plan") / "data", 6, kinds=LABELS)
    return Plan(
        str(data), model="vit-ti/8", options=TINY, image_size=16, epochs=1, batch_size=4, seed=5
    )


@pytest.fixture(scope="module")
def run(plan, tmp_path_factory) -> Path:
    return fit(plan, tmp_path_factory.mktemp("run") / "mine", device="cpu")


def test_a_classifier_has_the_accuracy_of_its_run(plan, run):
    result = evaluate_data(run, plan.data, "classify", device="cpu")
    assert result.confusion.accuracy == float(last_row(run)["accuracy"])
    assert result.confusion.total == len(result.examples) == 6
    assert (
        result.confusion.summary("classify")
        == json.loads((run / "training.json").read_text())["quality"]
    )
    assert (result.record.seed, result.record.batch_size) == (5, 4)
    assert (
        result.examples.about
        == "held-out images: 15% of the images of each label, at least one, drawn with seed 5"
    )


@pytest.mark.parametrize(("part", "count"), [("train", 30), ("all", 36)])
def test_the_other_parts_are_the_rest_and_the_whole(plan, run, part, count):
    result = evaluate_data(run, plan.data, "classify", part=part, device="cpu")
    assert result.confusion.total == count


def test_a_segmenter_has_the_quality_of_its_run_at_the_input_size(pets_folder, tmp_path):
    data = str(pets_folder(tmp_path / "pets", train=4, test=3))
    article = Plan(data, preset="article", options=TINY, image_size=32, epochs=1, batch_size=3)
    run = fit(article, tmp_path / "run", device="cpu")
    result = evaluate_data(run, data, "segment", device="cpu")
    assert result.record.at_input_size
    assert result.examples.about == "held-out images: the split of the folder"
    assert result.confusion.total == 3 * 32 * 32
    expected = last_row(run)
    assert result.confusion.mean_iou == float(expected["mean_iou"])
    assert result.confusion.accuracy == float(expected["pixel_accuracy"])
    both = evaluate_data(run, data, "segment", part="all", device="cpu")
    assert both.confusion.total == 7 * 32 * 32


def test_a_folder_with_some_of_the_labels_in_another_order_is_measured(
    labelled_folder, plan, run, tmp_path
):
    data = labelled_folder(tmp_path / "few", 2, kinds=("stripes", "b"))
    result = evaluate_data(run, str(data), "classify", part="all", device="cpu")
    assert dict(zip(result.confusion.labels, result.confusion.support.tolist(), strict=True)) == (
        dict.fromkeys(sorted(LABELS), 0) | {"b": 2, "stripes": 2}
    )


def test_scenes_are_measured_as_a_run_does():
    small = evaluate_data(bundled("classify"), "scenes", "classify", device="cpu", batch_size=50)
    assert small.confusion.total == 200
    assert small.confusion.accuracy >= 0.95


def test_images_that_keep_their_size_are_measured_one_by_one(plan, run, labelled_folder, tmp_path):
    loaded = checkpoint.load(run)
    checkpoint.save(
        replace(loaded, preprocessing=Preprocessing(size=None, shortest_edge=16)), tmp_path / "any"
    )
    result = evaluate_data(tmp_path / "any", plan.data, "classify", device="cpu", batch_size=8)
    assert result.record.batch_size == 1
    assert result.confusion.total == 6


def test_a_network_for_gray_images_is_refused(plan, tmp_path):
    rgb = load(bundled("classify"))
    network = ViT(replace(rgb.network.config, num_channels=1))
    preprocessing = replace(rgb.preprocessing, mean=(0.5,), std=(0.5,))
    save(replace(rgb, network=network, preprocessing=preprocessing), tmp_path / "gray")
    with pytest.raises(CheckpointError, match="gray takes images of num_channels 1; only"):
        evaluate_data(tmp_path / "gray", plan.data, "classify")


def test_a_checkpoint_of_the_other_task_is_refused(plan):
    with pytest.raises(CheckpointError, match="shapes-segformer is a model to segment, not to"):
        evaluate_data(bundled("segment"), plan.data, "classify")


def test_labels_are_compared_before_the_files_are_read(plan, monkeypatch):
    monkeypatch.setattr(module, "open_split", None)
    with pytest.raises(ValueError, match="5 of the data's 6 labels are not labels of shapes-vit"):
        evaluate_data(bundled("classify"), plan.data, "classify")


def test_a_batch_that_does_not_fit_is_an_error_with_advice(plan, run, monkeypatch):
    def out_of_memory(*arguments, **options):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(module, "measure", out_of_memory)
    with pytest.raises(ValueError, match=r"a batch of 4 images does not fit .* --batch-size"):
        evaluate_data(run, plan.data, "classify", device="cpu")


def test_masks_without_a_label_are_refused(masked_folder, tmp_path):
    root = masked_folder(tmp_path / "masks", 2)
    for path in (root / "masks").iterdir():
        with Image.open(path) as mask:
            Image.new("L", mask.size, 255).save(path)
    (root / "labels.txt").write_text("background\ncircle\n")
    with pytest.raises(ValueError, match=r"no pixel of the 2 masks in .* has a label"):
        evaluate_data(bundled("segment"), str(root), "segment", part="all")


@pytest.mark.parametrize(
    ("size", "count"), [((48, 48), 32), ((224, 224), 32), ((512, 512), 6), ((4096, 4096), 1)]
)
def test_larger_images_make_smaller_batches(size, count):
    assert batch_size_for(Preprocessing(size=size)) == count
