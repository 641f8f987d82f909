"""From a folder of images to a served model, by the commands."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

PATCHSERVE = Path(sys.executable).with_name("patchserve")
FROM_SCRATCH = [
    *("--model", "mit-b0", "--image-size", 32),
    *("--option", "hidden_sizes=16,32,40,64", "--option", "depths=1,1,1,1"),
    *("--epochs", 10, "--batch-size", 8, "--learning-rate", 2e-3),
]
FROM_BUNDLED = [
    *("--from", "bundled", "--epochs", 12, "--batch-size", 16, "--learning-rate", 5e-3),
]


def train(*flags: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(PATCHSERVE), "train", *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def interrupt_after(process: subprocess.Popen[str], prefix: str) -> str:
    """Send SIGINT after the first line with this prefix; return the output on stderr."""
    for line in process.stdout:
        if line.startswith(prefix):
            break
    else:
        pytest.fail(f"the command ended before {prefix!r}: {process.stderr.read()}")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    return error


@pytest.mark.slow  # tests/models/training and tests/app/cli/test_train.py do it in one process
@pytest.mark.parametrize(
    "options",
    [FROM_SCRATCH, FROM_BUNDLED],
    ids=["scratch", "bundled"],
)
def test_a_run_is_interrupted_resumed_and_its_model_served(
    launch, labelled_folder, tmp_path, options
):
    products, out = labelled_folder(tmp_path / "products", 120), tmp_path / "runs/products"
    process = train("--data", products, *options, "--out", out)
    error = interrupt_after(process, "epoch 2 of")
    assert process.returncode == 130
    command = f"patchserve train --resume --out {out}"
    assert error.strip() == f"patchserve: interrupted; continue with {command}"
    assert {path.name for path in out.iterdir()} == {"state.pt", "metrics.csv"}

    resumed = train("--resume", "--out", out)
    output, error = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, error
    assert "epoch 1 of" not in output
    with (out / "metrics.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["accuracy"]) >= 0.95

    unseen = labelled_folder(tmp_path / "unseen", 8, seed=9)
    images = sorted(unseen.rglob("*.png"))
    with launch("--classifier", out, "--segmenter", "none") as service:
        correct = 0
        for image in images:
            response = httpx.post(f"{service.url}/classify", content=image.read_bytes())
            correct += response.json()["predictions"][0]["label"] == image.parent.name
    assert correct / len(images) >= 0.9
