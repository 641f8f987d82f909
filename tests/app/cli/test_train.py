"""`patchserve train` on a folder of images: its flags and error messages."""

import os
import shlex
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.__main__ import cli
from app.cli import train
from app.core.process import catch_stop_signals
from models import checkpoint

TINY = ["--model", "vit-ti/8", "--image-size", "16", "--epochs", "2", "--batch-size", "4"]
TINY += [
    word
    for pair in ("num_layers=1", "hidden_size=24", "mlp_size=24")
    for word in ("--option", pair)
]


@pytest.fixture
def patchserve():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli, [str(word) for word in arguments])


@pytest.fixture
def products(labelled_folder, tmp_path) -> Path:
    return labelled_folder(tmp_path / "products", 6)


def test_a_folder_of_images_becomes_a_checkpoint(patchserve, products, tmp_path):
    ended = patchserve("train", "--data", products, *TINY, "--out", tmp_path / "out")
    assert ended.exit_code == 0, ended.output
    assert "epoch 2 of 2: loss" in ended.output
    assert checkpoint.load(tmp_path / "out").labels == ("cross", "disc", "stripes")


def test_the_command_of_the_model_card_runs_as_printed(
    patchserve, labelled_folder, tmp_path, monkeypatch
):
    data, out = labelled_folder(tmp_path / "my products", 4), tmp_path / "my runs/1"
    monkeypatch.chdir(tmp_path)
    ended = patchserve("train", "--data", "my products", *TINY, "--seed", 7, "--out", "my runs/1")
    assert ended.exit_code == 0, ended.output
    card = (out / "README.md").read_text()
    commands = [
        shlex.split(line) for line in card.splitlines() if line.startswith("    patchserve")
    ]
    assert commands[0] == ["patchserve", "serve", "--classifier", str(out)]
    monkeypatch.chdir("/")
    ended = patchserve(*commands[1][1:])
    assert ended.exit_code == 0, ended.output
    assert str(data) in commands[1]
    again = tmp_path / "my runs/1-again/model.safetensors"
    assert again.read_bytes() == (out / "model.safetensors").read_bytes()


def test_the_default_folder_is_named_after_the_data(products, monkeypatch, tmp_path, patchserve):
    monkeypatch.chdir(tmp_path)
    assert patchserve("train", "--data", "products", *TINY).exit_code == 0
    assert (tmp_path / "runs/products/config.json").is_file()
    assert train.default_folder("scenes:300") == Path("runs/scenes")
    assert train.default_folder(None) == Path("runs/shapes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vit-ti/16"], "--data is missing"),
        (["--device", "cuda"], "--device cuda needs --data"),
        (["--data", "scenes"], "--from CHECKPOINT is required"),
        (["--data", "scenes", "--model", "resnet"], "no network is called 'resnet'"),
        (["--data", "scenes", "--model", "vit-ti/16", "--option", "deep"], "name=value"),
        (["--data", "no/such", "--model", "vit-ti/16"], "no/such: No such folder"),
        (["--data", "scenes", "--from", "no-such"], "no-such"),
        (["--resume", "--out", "no/such"], "no interrupted run"),
    ],
)
def test_an_error_is_one_line(patchserve, arguments, message):
    ended = patchserve("train", *arguments)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_an_interrupted_run_says_how_to_continue_and_continues(
    patchserve, products, monkeypatch, tmp_path
):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(
            train.training.Display,
            "stepped",
            lambda *arguments: os.kill(os.getpid(), signal.SIGINT),
        )
        ended = patchserve("train", "--data", products, *TINY, "--out", out)
    assert ended.exit_code == 130
    assert f"continue with patchserve train --resume --out {out}" in ended.stderr
    refused = patchserve("train", "--resume", "--out", out, "--epochs", 9)
    assert (refused.exit_code, "cannot change" in refused.stderr) == (2, True)
    ended = patchserve("train", "--resume", "--out", out, *TINY)
    assert ended.exit_code == 0, ended.output
    assert checkpoint.load(out).task == "classify"


def test_an_interruption_before_the_first_step_is_reported(
    patchserve, products, monkeypatch, tmp_path
):
    def interrupt(*arguments):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(train.training.Display, "checking", interrupt)
    ended = patchserve("train", "--data", products, *TINY, "--out", tmp_path / "out")
    assert ended.exit_code == 130
    assert "interrupted" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_the_second_signal_raises():
    before = signal.getsignal(signal.SIGTERM)
    with catch_stop_signals() as stop_requested:
        assert not stop_requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
