"""`patchserve check`: its report, its JSON and its exit status."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from app.__main__ import cli
from app.cli import check
from app.cli.check_report import labels_text, preprocessing_text
from app.engine.interface import OutOfMemory
from models.checkpoint import bundled
from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def patchserve(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def odd(tmp_path):
    """A copy of the bundled classifier without its preprocessing."""
    shutil.copytree(bundled("classify"), tmp_path / "my odd one")
    (tmp_path / "my odd one/preprocessor_config.json").unlink()
    return tmp_path / "my odd one"


def test_a_checkpoint_that_can_be_served_is_described(odd):
    ended = patchserve("check", odd, "--runtime", "torch", "--device", "cpu")
    assert ended.exit_code == 0, ended.output
    first, *rest = ended.stdout.splitlines()
    assert first == f"{odd} can be served"
    rows = [(line[2:17].strip(), line[17:]) for line in rest]
    notes = [text for name, text in rows if name == "note"]
    assert "there is no preprocessor_config.json" in notes[0]
    assert "the network was trained for 48 x 48" in notes[1]
    found = dict(rows)
    assert found["architecture"] == (
        "ViTForImageClassification, 816,518 parameters, stored as float32"
    )
    assert found["task"] == "classify (single label classification)"
    assert found["labels"] == "6: circle, square, triangle, star, ring, ..."
    assert found["preprocessing"] == (
        "resize to 224 x 224 (bilinear), values / 255, mean 0.5, std 0.5 (assumed)"
    )
    assert found["runs"] == "in float32 on cpu, by torch"
    assert found["forward pass"].endswith(
        " ms for an image of 224 x 224 pixels; the output is finite"
    )
    assert found["serve it"] == f"patchserve serve --classifier '{odd}'"


def test_both_bundled_checkpoints_are_a_line_of_json_each():
    ended = patchserve("check", "bundled", "--json", "--runtime", "torch", "--device", "cpu")
    assert ended.exit_code == 0, ended.output
    classifier, segmenter = map(json.loads, ended.stdout.splitlines())
    assert (classifier["servable"], classifier["task"]) == (True, "classify")
    assert classifier["labels"]["count"] == 6
    assert classifier["preprocessing"]["size"] == [48, 48]
    assert classifier["preprocessing"]["resample"] == "bilinear"
    assert not classifier["preprocessing"]["assumed"]
    assert classifier["parameters"] == 816_518
    assert (classifier["dtype"], classifier["stored_dtypes"]) == ("float32", ["float32"])
    assert classifier["warnings"] == []
    assert classifier["forward_ms"] > 0
    assert (segmenter["task"], segmenter["problem_type"]) == ("segment", None)
    assert segmenter["input_size"] == [128, 128]


@pytest.fixture
def unlabeled(tmp_path):
    """A copy of the bundled classifier without labels."""
    folder = shutil.copytree(bundled("classify"), tmp_path / "unlabeled")
    document = json.loads((folder / "config.json").read_text())
    del document["id2label"], document["label2id"]
    (folder / "config.json").write_text(json.dumps(document))
    return folder


def test_labels_that_are_assumed_are_a_note_and_a_file_names_them(unlabeled, tmp_path):
    words = ("check", unlabeled, "--device", "cpu")
    ended = patchserve(*words)
    assert ended.exit_code == 0, ended.output
    (note,) = (line for line in ended.stdout.splitlines() if line.startswith("  note"))
    assert "numbered from LABEL_0, because no file names them" in note
    file = tmp_path / "my labels.txt"
    file.write_text("a\nb\nc\nd\ne\nf\n")
    ended = patchserve(*words, "--labels", file, "--strict")
    assert ended.exit_code == 0, ended.output
    assert "6: a, b, c, d, e, ..." in ended.stdout
    assert "  note" not in ended.stdout
    flags = f"--classifier {unlabeled} --classifier-labels '{file}' --strict"
    assert f"patchserve serve {flags}\n" in ended.stdout


def test_strict_refuses_what_would_be_assumed(unlabeled):
    ended = patchserve("check", unlabeled, "--strict", "--json", "--device", "cpu")
    assert ended.exit_code == 1
    error = json.loads(ended.stdout)["error"]
    assert error.startswith("unlabeled leaves open what strict loading does not assume: (1) the la")
    assert "labels.txt" in error


def test_labels_and_an_architecture_that_do_not_fit_are_the_reason(unlabeled, tmp_path):
    (tmp_path / "two.txt").write_text("a\nb\n")
    ended = patchserve("check", unlabeled, "--labels", tmp_path / "two.txt")
    assert ended.exit_code == 1
    assert "two.txt has 2 labels for 6 outputs of the network" in ended.stdout
    ended = patchserve("check", unlabeled, "--arch", "vit_b_16")
    assert ended.exit_code == 1
    assert "'vit_b_16' is given, but only for a file of weights" in ended.stdout


def test_a_checkpoint_that_cannot_be_served_has_status_1_and_the_reason(odd):
    (odd / "model.safetensors").unlink()
    ended = patchserve("check", odd)
    assert ended.exit_code == 1
    first, reason = ended.stdout.splitlines()
    assert first == f"{odd} cannot be served"
    assert reason.startswith(f"  no weights found in {odd}: looked for model.safetensors")
    ended = patchserve("check", odd, "--json")
    assert ended.exit_code == 1
    verdict = json.loads(ended.stdout)
    assert (verdict["servable"], verdict["error"]) == (False, reason.strip())


def test_a_folder_that_does_not_exist_cannot_be_served():
    ended = patchserve("check", "./nothing")
    assert ended.exit_code == 1
    assert "neither an existing folder or file nor a Hub id" in ended.stdout


@pytest.mark.parametrize(
    "error", [OutOfMemory("no memory is left"), MemoryError(), RuntimeError("x")]
)
def test_a_failure_of_the_device_is_a_verdict(error, monkeypatch):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(check, "try_checkpoint", fail)
    ended = patchserve("check", "bundled")
    assert ended.exit_code == 1
    assert "cannot be served" in ended.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument"),
        (["bundled", "--device", "cuda:63"], "there is no device cuda:63"),
        (["bundled", "--device", "abacus"], "'abacus' is not a device"),
        (["bundled", "--dtype", "int4"], "int4"),
        (["bundled", "--runtime", "openvino", "--dtype", "float16"], "the runtime openvino needs"),
    ],
)
def test_flags_that_cannot_be_met_are_a_usage_error(words, message):
    ended = patchserve("check", *words)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert ended.stdout == ""


def test_names_from_files_do_not_control_the_terminal(odd):
    path = odd / "config.json"
    document = json.loads(path.read_text())
    document["id2label"]["0"] = "\x1b[31mred\x07"
    path.write_text(json.dumps(document))
    ended = patchserve("check", odd, "--runtime", "torch")
    assert "\x1b" not in ended.stdout
    assert "6: ?[31mred?, square" in ended.stdout


@pytest.mark.parametrize(
    ("preprocessing", "text"),
    [
        (
            Preprocessing(size=None, shortest_edge=256, crop_size=(224, 200), resample=3),
            "resize shortest edge to 256 (bicubic), center crop to 200 x 224, values / 255, "
            "mean 0.5, std 0.5",
        ),
        (
            Preprocessing(size=None, shortest_edge=9, longest_edge=12, mean=None, std=None),
            "resize shortest edge to 9, longest to at most 12 (bilinear), values / 255",
        ),
        (
            Preprocessing(size=None, rescale_factor=0.25, mean=IMAGENET_MEAN, std=IMAGENET_STD),
            "no resize, values x 0.25, mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
        ),
    ],
)
def test_the_preprocessing_is_described_by_its_steps(preprocessing, text):
    assert preprocessing_text(preprocessing) == text


def test_many_or_long_labels_are_shortened():
    assert labels_text(("cat", "d" * 99)) == f"2: cat, {'d' * 40}..."
    assert labels_text(tuple("abcdefgh") * 300) == "2,400: a, b, c, d, e, ..."


def test_labels_with_commas_are_told_apart():
    assert labels_text(("tabby, tabby cat", "mosque")) == "2: tabby, tabby cat; mosque"
