"""The command line: the engine without HTTP, and error messages."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.__main__ import cli
from app.cli.serve import is_loopback
from app.core.process import INTERRUPTED, RUN_FAILED, START_FAILED
from app.core.settings import Settings
from app.engine.interface import DeviceLost, OutOfMemory
from models import checkpoint

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture
def patchserve(monkeypatch):
    """Run the command line in this process; restores Pillow's limit afterwards."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    runner = CliRunner()
    return lambda *words: runner.invoke(cli, [str(word) for word in words])


def test_classify_prints_the_best_labels_of_each_image(patchserve, truth):
    names = list(truth)
    ended = patchserve("classify", *(SAMPLES / name for name in names), "--top-k", 2)
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    for first, second, name in zip(lines[::2], lines[1::2], names, strict=True):
        assert first.split()[:2] == [str(SAMPLES / name), truth[name]["label"]]
        assert second.startswith(" " * len(str(SAMPLES / name)))


def test_classify_writes_the_answers_of_a_folder_in_its_order(patchserve, truth, tmp_path):
    out = tmp_path / "new" / "results.jsonl"
    ended = patchserve("classify", SAMPLES, "--out", out, "--threshold", 0.5)
    assert (ended.exit_code, ended.stdout) == (0, "")
    images = sorted(SAMPLES.glob("*.png"))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["file"] for row in rows] == [str(image) for image in images]
    best = {Path(row["file"]).name: row["predictions"][0]["label"] for row in rows}
    assert {name: best[name] for name in truth} == {n: t["label"] for n, t in truth.items()}
    assert min(each["score"] for row in rows for each in row["predictions"]) >= 0.5
    assert f"{len(images)} images in " in ended.stderr


def test_classify_prints_json_lines_and_writes_csv_at_the_same_time(patchserve, truth, tmp_path):
    out = tmp_path / "results.csv"
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    name = next(iter(truth))
    ended = patchserve("classify", SAMPLES / name, broken, "--json", "--out", out, "--top-k", 1)
    assert ended.exit_code == 1
    good, bad = (json.loads(line) for line in ended.stdout.splitlines())
    assert good["model"] == "shapes-vit"
    assert good["predictions"][0]["label"] == truth[name]["label"]
    assert (bad["file"], bad["code"]) == (str(broken), "unsupported_image_format")
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["file"], row["label"], row["code"]) for row in rows] == [
        (str(SAMPLES / name), truth[name]["label"], ""),
        (str(broken), "", "unsupported_image_format"),
    ]


def test_a_file_gives_the_labels(patchserve, truth, tmp_path):
    name = next(iter(truth))
    own = [f"label {number}" for number in range(7)]
    for command, count in (("classify", 6), ("segment", 7), ("explain", 6)):
        (tmp_path / "labels.txt").write_text("\n".join(own[:count]))
        out = [] if command == "classify" else ["--out", tmp_path]
        labels = ["--labels", tmp_path / "labels.txt"]
        ended = patchserve(command, SAMPLES / name, *labels, *out, "--json")
        assert ended.exit_code == 0, ended.output
    classes = checkpoint.load(checkpoint.bundled("classify")).labels
    with Image.open(tmp_path / f"{Path(name).stem}.relevance.png") as picture:
        assert picture.text["label"] == own[classes.index(truth[name]["label"])]
    for command in ("classify", "explain"):
        out = [] if command == "classify" else ["--out", tmp_path]
        ended = patchserve(command, SAMPLES / name, *out, "--arch", "vit_b_16")
        assert ended.exit_code == 2
        assert "'vit_b_16' is given, but only for a file of weights" in ended.stderr


def test_segment_writes_a_mask_for_each_image(patchserve, truth, tmp_path):
    name, entry = next(iter(truth.items()))
    ended = patchserve("segment", SAMPLES / name, "--out", tmp_path / "masks")
    assert ended.exit_code == 0, ended.output
    mask = np.asarray(Image.open(tmp_path / "masks" / f"{Path(name).stem}.mask.png"))
    expected = np.asarray(Image.open(SAMPLES / entry["mask"]))
    assert mask.shape == expected.shape
    assert (mask == expected).mean() > 0.97


def test_segment_draws_an_overlay_as_asked(patchserve, truth, tmp_path):
    name = next(iter(truth))
    pixels = np.asarray(Image.open(SAMPLES / name).convert("RGB")).astype(int)
    background = np.asarray(Image.open(SAMPLES / truth[name]["mask"])) == 0
    images = []
    for words in ([], ["--opacity", 1, "--background", "none"]):
        ended = patchserve("segment", SAMPLES / name, "--out", tmp_path, "--render=overlay", *words)
        assert ended.exit_code == 0, ended.output
        images.append(np.asarray(Image.open(tmp_path / f"{Path(name).stem}.overlay.png")))
    unpainted = (images[0] == pixels).all(axis=2)
    assert (unpainted == background).mean() > 0.97
    assert (images[1][background] == 0).mean() > 0.97  # the color of the background is black


def test_segment_refuses_a_background_that_the_model_does_not_have(patchserve, truth, tmp_path):
    words = ["--out", tmp_path, "--render=overlay", "--background", "dog"]
    ended = patchserve("segment", SAMPLES / next(iter(truth)), *words)
    assert ended.exit_code == 2
    assert "an index from 0 to 6, not 'dog'" in ended.stderr


def test_segment_writes_the_confidence_as_a_grey_picture(patchserve, truth, tmp_path):
    name, entry = next(iter(truth.items()))
    ended = patchserve("segment", SAMPLES / name, "--out", tmp_path, "--render", "confidence")
    assert ended.exit_code == 0, ended.output
    image = Image.open(tmp_path / f"{Path(name).stem}.confidence.png")
    background = np.asarray(Image.open(SAMPLES / entry["mask"])) == 0
    assert image.mode == "L"
    assert np.asarray(image)[background].mean() > 0.9 * 255


def test_an_image_that_fails_is_reported_and_the_others_continue(patchserve, truth, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    missing = tmp_path / "missing.png"
    good = SAMPLES / next(iter(truth))
    ended = patchserve("classify", broken, missing, good)
    assert ended.exit_code == 1
    assert f"{broken}: the bytes are not" in ended.stderr
    assert f"\n{missing}: No such file" in ended.stderr
    assert str(good) in ended.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classify", "x.png", "--classifier", "/no/such/folder"], "/no/such/folder"),
        (["classify", "x.png", "--device", "cuda:63"], "cuda:63"),
        (
            ["segment", "x.png", "--out", "masks", "--render", "sketch"],
            "mask, color, overlay, confidence",
        ),
        (["segment", "x.png", "--out", "masks", "--opacity", "1"], "need --render overlay"),
        (["serve", "--port", "99999"], "port"),
        (["classify", "x.png", "--json", "--csv"], "--json and --csv exclude each other"),
        (["classify", "x.png", "--out", "x.txt"], "--out must end in .jsonl or .csv"),
        (["classify", "no/*.png"], "no/*.png: no image matches"),
    ],
)
def test_an_error_is_one_line(patchserve, words, message):
    ended = patchserve(*words)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_threshold_is_refused_for_a_regression(patchserve, truth, tmp_path):
    bundled = checkpoint.load(checkpoint.bundled("classify"))
    checkpoint.save(replace(bundled, problem_type="regression"), tmp_path / "values")
    image = SAMPLES / next(iter(truth))
    ended = patchserve("classify", image, "--classifier", tmp_path / "values", "--threshold", 0.5)
    assert ended.exit_code == 2
    assert ended.stderr.startswith("patchserve: --threshold is for scores from 0 to 1; values pre")


def test_a_lost_device_ends_the_command_with_its_status(patchserve, truth, monkeypatch):
    def run(*_):
        raise DeviceLost("the GPU is gone")

    monkeypatch.setattr("app.cli.run_images.TorchEngine.run", run)
    ended = patchserve("classify", SAMPLES / next(iter(truth)))
    assert (ended.exit_code, ended.stderr) == (RUN_FAILED, "patchserve: the GPU is gone\n")


def test_masks_of_a_folder_have_its_subfolders(patchserve, truth, tmp_path):
    name = next(iter(truth))
    for folder in ("a", "b"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        shutil.copy(SAMPLES / name, tmp_path / "photos" / folder / "1.png")
    ended = patchserve("segment", tmp_path / "photos", "--out", tmp_path / "out", "--json")
    assert ended.exit_code == 0, ended.output
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    for folder, row in zip(("a", "b"), rows, strict=True):
        mask = np.asarray(Image.open(tmp_path / "out" / folder / "1.mask.png"))
        assert row["file"] == str(tmp_path / "photos" / folder / "1.png")
        assert (row["height"], row["width"]) == mask.shape
        areas = {each["index"]: each["area"] for each in row["segments"]}
        assert areas == {index: (mask == index).sum() for index in np.unique(mask)}
        assert "mask" not in row


@pytest.mark.parametrize("command", ["segment", "explain"])
def test_images_of_equal_names_are_refused_before_one_result_replaces_another(
    patchserve, tmp_path, command
):
    ended = patchserve(command, "a/1.png", "b/1.png", "--out", tmp_path / "out")
    assert ended.exit_code == 2
    assert ended.stderr.startswith("patchserve: a/1.png and b/1.png have the same name")
    assert not (tmp_path / "out").exists()


def test_a_mask_that_cannot_be_written_is_an_error_of_one_line(patchserve, truth, tmp_path):
    name = next(iter(truth))
    (tmp_path / f"{Path(name).stem}.mask.png").mkdir()
    ended = patchserve("segment", SAMPLES / name, "--out", tmp_path)
    assert ended.exit_code == 2
    assert ended.stderr.strip().endswith("Is a directory")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_an_image_for_which_the_device_has_no_memory_is_reported(patchserve, truth, monkeypatch):
    def run(*_):
        raise OutOfMemory("the device has no memory")

    monkeypatch.setattr("app.cli.run_images.TorchEngine.run", run)
    ended = patchserve("classify", SAMPLES / next(iter(truth)))
    assert ended.exit_code == 1
    assert ended.stderr.strip().endswith("the device has no memory")


def test_the_limits_of_the_service_apply_from_the_same_variables(patchserve, truth, monkeypatch):
    monkeypatch.setenv("PATCHSERVE_MAX_IMAGE_PIXELS", "100")
    image = SAMPLES / next(iter(truth))
    ended = patchserve("classify", image)
    assert ended.exit_code == 1
    assert ended.stderr == f"{image}: the image has more than 100 pixels\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [("# none\n", "no API key"), ("short-key\n", "API key 1"), (None, "No such")],
)
def test_an_invalid_file_of_keys_is_an_error_of_one_line(patchserve, tmp_path, content, message):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    ended = patchserve("serve", "--api-keys-file", file)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert "short-key" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_there_is_no_flag_for_keys(patchserve):
    ended = patchserve("serve", "--api-keys", "a-key-of-the-tests-0")
    assert ended.exit_code == 2
    assert "No such option" in ended.stderr


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "", "10.0.0.7", "shop.example")],  # noqa: S104
)
def test_loopback_addresses(host, loopback):
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("words", [["segment", "x.png"], ["scenes"]])
def test_a_folder_that_cannot_be_created_is_an_error_of_one_line(patchserve, tmp_path, words):
    (tmp_path / "taken").write_text("a file")
    ended = patchserve(*words, "--out", tmp_path / "taken")
    assert ended.exit_code == 2
    assert ended.stderr.strip() == f"patchserve: {tmp_path / 'taken'}: File exists"


@pytest.mark.parametrize(
    "words",
    [
        ["classify", "x.png", "--top-k", "0"],
        ["classify", "x.png", "--threshold", "1.5"],
        ["evaluate", "--count", "0"],
    ],
)
def test_a_number_out_of_range_is_refused_with_its_flag(patchserve, words):
    ended = patchserve(*words)
    assert ended.exit_code == 2
    assert words[-2] in ended.stderr


def test_every_setting_is_a_flag_of_serve(patchserve):
    shown = patchserve("serve", "--help").output
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in shown


def test_scenes_are_written_with_their_ground_truth(patchserve, tmp_path):
    assert patchserve("scenes", "--seed", 5, "--count", 2, "--out", tmp_path).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"scene-0000.png", "scene-0001.png"}


def test_evaluate_prints_the_quality(patchserve, tmp_path):
    ended = patchserve("evaluate", "--count", 12, "--out", tmp_path)
    assert ended.exit_code == 0, ended.output
    assert "accuracy" in ended.output.lower()
    with Image.open(tmp_path / "scenes.png") as sheet:
        assert sheet.width > 100


def test_train_does_not_overwrite_without_the_flag(patchserve, tmp_path):
    (tmp_path / "shapes-vit").mkdir()
    ended = patchserve("train", "--out", tmp_path)
    assert ended.exit_code == 2
    assert "shapes-vit" in ended.stderr


def test_on_windows_the_command_ends_with_one_line():
    program = (
        "import runpy, sys; sys.platform = 'win32'; sys.modules['signal'] = None;"
        "sys.modules['resource'] = None; runpy.run_module('app', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == START_FAILED
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("patchserve: Windows is not supported")


def test_an_interrupt_while_torch_is_imported_is_one_line():
    program = (
        "import os, runpy, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(name, *rest):\n"
        "        if name == 'torch': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt)\n"
        "sys.argv = ['patchserve', 'classify', 'a.png']\n"
        "runpy.run_module('app', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == INTERRUPTED
    assert (ended.stdout, ended.stderr) == ("", "patchserve: interrupted\n")


def test_the_versions_are_printed_without_the_import_of_torch(patchserve):
    program = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['patchserve', '--version'];"
        "runpy.run_module('app', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(
        f"patchserve {version('patchserve')} (torch {version('torch')}, "
    )
    assert patchserve("--version").output == ended.stdout
