"""`patchserve evaluate`: on the images of a training run, on others, and on drawn scenes."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from app.__main__ import cli
from app.cli import evaluate
from models import checkpoint

TINY = ["--model", "vit-ti/8", "--image-size", "16", "--epochs", "1", "--batch-size", "4"]
TINY += [
    word
    for pair in ("num_layers=1", "hidden_size=24", "mlp_size=24")
    for word in ("--option", pair)
]
SAMPLES = Path(__file__).parents[2] / "samples"
LABELS = ("cross", "disc", "stripes", "a", "b", "[c]")


def patchserve(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def data(labelled_folder, tmp_path_factory) -> Path:
    return labelled_folder(tmp_path_factory.mktemp("data") / "products", 7, kinds=LABELS)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> tuple[Path, str]:
    """A trained classifier, and what the command printed."""
    out = tmp_path_factory.mktemp("runs") / "mine"
    ended = patchserve("train", "--data", data, *TINY, "--seed", 3, "--out", out)
    assert ended.exit_code == 0, ended.output
    return out, ended.output


def test_the_numbers_are_those_of_the_training(data, run, tmp_path):
    out, printed = run
    ended = patchserve("evaluate", "--data", data, "--classifier", out, "--json")
    assert ended.exit_code == 0, ended.output
    result = json.loads(ended.stdout)
    with (out / "metrics.csv").open() as file:
        assert result["accuracy"] == float(list(csv.DictReader(file))[-1]["accuracy"])
    assert f"held-out accuracy {result['accuracy']:.4f}" in printed
    assert 0 <= result["accuracy"] <= result["top_5_accuracy"] <= 1
    assert (result["images"], result["split"], result["seed"]) == (6, "val", 3)
    assert sorted(row["label"] for row in result["labels"]) == sorted(LABELS)
    assert [row["support"] for row in result["labels"]] == [1] * 6
    assert sum(map(sum, result["confusion"])) == 6
    for column, row in enumerate(result["labels"]):
        hits, predicted = (
            result["confusion"][column][column],
            sum(line[column] for line in result["confusion"]),
        )
        assert row["recall"] == hits
        assert row["precision"] == (hits / predicted if predicted else None)


def test_a_labels_file_names_the_outputs(data, run, tmp_path):
    own = checkpoint.load(run[0]).labels
    (tmp_path / "labels.txt").write_text("\n".join(reversed(own)))
    words = ["--data", data, "--classifier", run[0], "--json"]
    ended = patchserve("evaluate", *words, "--labels", tmp_path / "labels.txt")
    assert ended.exit_code == 0, ended.output
    renamed = [row["label"] for row in json.loads(ended.stdout)["labels"]]
    assert renamed == list(reversed(own))
    ended = patchserve("evaluate", *words, "--arch", "vit_b_16")
    assert ended.exit_code == 2
    assert "only for a file of weights" in ended.stderr
    ended = patchserve("evaluate", "--labels", tmp_path / "labels.txt")
    assert ended.exit_code == 2
    assert "--labels needs --data FOLDER" in ended.stderr


def test_people_get_a_table_and_a_figure(data, run, tmp_path):
    ended = patchserve("evaluate", "--data", data, "--classifier", run[0], "--out", tmp_path / "o")
    assert ended.exit_code == 0, ended.output
    first, second, *table = ended.stdout.splitlines()
    assert first == (
        f"mine on {data}: 6 images (held-out images: 15% of the images of each label,"
        " at least one, drawn with seed 3)"
    )
    assert second.startswith("accuracy 0.")
    assert "top-5 accuracy" in second
    cells = [line.split() for line in table if line.startswith(" ") and line.strip()]
    assert cells[0] == ["label", "precision", "recall", "f1", "support"]
    assert [row[0] for row in cells[2:]] == sorted(LABELS)  # after a rule
    assert [row[-1] for row in cells[2:]] == ["1"] * 6
    assert f"confusion matrix: {tmp_path / 'o/confusion.png'}" in table
    with Image.open(tmp_path / "o/confusion.png") as image:
        image.load()


def test_a_segmenter_is_measured_by_pixels(truth, tmp_path):
    labels = checkpoint.load(checkpoint.bundled("segment")).labels
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for name, entry in truth.items():
        shutil.copy(SAMPLES / name, tmp_path / "images" / name)
        shutil.copy(SAMPLES / entry["mask"], tmp_path / "masks" / name)
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    words = ("evaluate", "--data", tmp_path, "--segmenter", "bundled", "--split", "all")
    ended = patchserve(*words)
    assert ended.exit_code == 0, ended.output
    result = json.loads(patchserve(*words, "--json").stdout)
    assert result["mean_iou"] > 0.85
    assert result["pixel_accuracy"] > 0.95
    first, second, *_ = ended.stdout.splitlines()
    assert first.endswith(f"{len(truth)} images (all images)")
    assert second == (
        f"mean IoU {result['mean_iou']:.4f}   pixel accuracy {result['pixel_accuracy']:.4f}"
    )
    background = result["labels"][0]
    assert f"{background['pixels']:,}" in ended.stdout
    assert (background["label"], background["iou"] > 0.9) == ("background", True)


def test_without_matplotlib_the_command_ends_before_it_measures(data, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(evaluate.training, "evaluate_data", None)
    ended = patchserve("evaluate", "--data", data, "--classifier", run[0], "--out", tmp_path)
    assert ended.exit_code == 2
    assert ended.stderr == (
        "patchserve: figures need matplotlib: run make install EXTRAS=figures\n"
    )


def test_labels_that_the_checkpoint_does_not_have_are_a_short_error(data):
    ended = patchserve("evaluate", "--data", data, "--classifier", "bundled")
    assert ended.exit_code == 2
    assert "5 of the data's 6 labels are not labels of shapes-vit: [c], a, b, " in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert len(ended.stderr) < 400


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "x"], "name one checkpoint: --classifier or --segmenter"),
        (["--data", "x", "--classifier", "a", "--segmenter", "b"], "name one checkpoint"),
        (["--data", "x", "--classifier", "bundled", "--count", "3"], "--count is for drawn scenes"),
        (["--data", "no/such", "--classifier", "bundled"], "no/such: No such folder"),
        (["--split", "all"], "--split needs --data FOLDER"),
        (["--device", "cpu"], "--device needs --data FOLDER"),
    ],
)
def test_flags_that_do_not_fit_are_an_error_of_one_line(words, message):
    ended = patchserve("evaluate", *words)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_an_interrupt_is_reported(data, run, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate.training, "evaluate_data", interrupt)
    ended = patchserve("evaluate", "--data", data, "--classifier", run[0])
    assert (ended.exit_code, ended.stderr) == (130, "patchserve: interrupted\n")


def test_without_data_both_checkpoints_are_measured_on_scenes():
    ended = patchserve("evaluate", "--count", 4, "--seed", 9)
    assert ended.exit_code == 0, ended.output
    assert "4 scenes of seed 9" in ended.stdout
    ended = patchserve("evaluate", "--count", 4, "--seed", 9, "--json")
    result = json.loads(ended.stdout)
    assert 0 <= result["classify"]["accuracy"] <= 1
    assert sum(row["pixels"] for row in result["segment"]["labels"]) == 4 * 128 * 128
