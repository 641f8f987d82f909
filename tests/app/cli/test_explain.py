"""`patchserve explain`: images, numbers, figures, and error messages."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.__main__ import cli
from models import checkpoint

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
def explain(monkeypatch, tmp_path):
    """Run `patchserve explain` into a folder; restores Pillow's limit afterwards."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    runner = CliRunner()
    return lambda *words: runner.invoke(
        cli, ["explain", *(str(word) for word in words), "--out", str(tmp_path / "out")]
    )


def test_each_image_gets_a_png_of_its_size(explain, truth, tmp_path):
    ended = explain(*(SAMPLES / name for name in truth))
    assert ended.exit_code == 0, ended.output
    for name, entry in truth.items():
        target = tmp_path / "out" / f"{Path(name).stem}.relevance.png"
        assert str(target) in ended.output
        with Image.open(target) as picture, Image.open(SAMPLES / name) as scene:
            assert picture.size == scene.size
            assert picture.text["label"] == entry["label"]
            assert picture.text["method"] == "gradient"
    assert len(list((tmp_path / "out").iterdir())) == len(truth)


def test_json_writes_the_numbers(explain, truth, tmp_path):
    name = next(iter(truth))
    ended = explain(SAMPLES / name, "--json", "--method", "rollout")
    assert ended.exit_code == 0, ended.output
    body = json.loads((tmp_path / "out" / f"{Path(name).stem}.relevance.json").read_text())
    assert (body["model"], body["method"]) == ("shapes-vit", "rollout")
    assert np.sum(body["relevance"]) == pytest.approx(1, abs=1e-4)
    assert len(body["attention_distance"]) == 4


@pytest.mark.parametrize("figure", ["attention-distance", "filters", "positions", "sinusoids"])
def test_figure_draws_one_figure(explain, truth, tmp_path, figure):
    ended = explain(*(SAMPLES / name for name in truth), "--figure", figure)
    assert ended.exit_code == 0, ended.output
    (drawn,) = (tmp_path / "out").iterdir()
    assert drawn.name == f"{figure}.png"
    with Image.open(drawn) as picture:
        assert min(picture.size) > 400


def test_the_attention_distance_leaves_out_images_that_fail(explain, truth, tmp_path):
    found = SAMPLES / next(iter(truth))
    ended = explain(tmp_path / "missing.png", found, "--figure", "attention-distance")
    assert ended.exit_code == 1
    assert "missing.png: No such file" in ended.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["attention-distance.png"]


def test_a_figure_of_the_checkpoint_needs_no_image(explain, tmp_path):
    ended = explain("--figure", "filters", "--classifier", checkpoint.bundled("segment"))
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "out" / "filters.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no image is given"),
        (["--figure", "attention-distance"], "no image is given"),
        (["--figure", "positions", "--classifier", checkpoint.bundled("segment")], "convolutions"),
        (["--figure", "filters", "--classifier", "/no/such/folder"], "/no/such/folder"),
        (["x.png", "--classifier", checkpoint.bundled("segment")], "not to classify"),
    ],
)
def test_an_error_is_one_line(explain, words, message):
    ended = explain(*words)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("figure", ["filters", "attention-distance"])
def test_without_matplotlib_the_message_says_what_to_install(explain, truth, monkeypatch, figure):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ended = explain(SAMPLES / next(iter(truth)), "--figure", figure)
    assert ended.exit_code == 2
    assert "make install EXTRAS=figures" in ended.stderr


def test_an_image_that_fails_is_reported(explain, truth, tmp_path):
    ended = explain(tmp_path / "missing.png", SAMPLES / next(iter(truth)))
    assert ended.exit_code == 1
    assert "missing.png: No such file" in ended.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1
