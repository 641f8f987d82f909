"""From a folder of pictures to a served model: the commands as their users type them."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

PATCHSERVE = Path(sys.executable).with_name("patchserve")
FROM_NOTHING = [
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


def interrupt_after(process: subprocess.Popen[str], beginning: str) -> str:
    """Send SIGINT at the first line that begins so; what it said on stderr."""
    for line in process.stdout:
        if line.startswith(beginning):
            break
    else:
        pytest.fail(f"it ended before {beginning!r}: {process.stderr.read()}")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return said


@pytest.mark.parametrize(
    "how", [FROM_NOTHING, pytest.param(FROM_BUNDLED, marks=pytest.mark.slow)], ids=["new", "tuned"]
)
def test_a_folder_of_pictures_becomes_a_model_that_answers_rightly(
    launch, labelled_folder, tmp_path, how
):
    products, out = labelled_folder(tmp_path / "products", 120), tmp_path / "runs/products"
    process = train("--data", products, *how, "--out", out)
    said = interrupt_after(process, "epoch 2 of")
    assert process.returncode == 130
    command = f"patchserve train --resume --out {out}"
    assert said.strip() == f"patchserve: interrupted; continue with {command}"
    assert {path.name for path in out.iterdir()} == {"state.pt", "metrics.csv"}

    resumed = train("--resume", "--out", out)
    told, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, said
    assert "epoch 1 of" not in told
    with (out / "metrics.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["accuracy"]) >= 0.95

    unseen = labelled_folder(tmp_path / "unseen", 8, seed=9)
    pictures = sorted(unseen.rglob("*.png"))
    with launch("--classifier", out, "--segmenter", "none") as service:
        right = 0
        for picture in pictures:
            answer = httpx.post(f"{service.url}/classify", content=picture.read_bytes())
            right += answer.json()["predictions"][0]["label"] == picture.parent.name
    assert right / len(pictures) >= 0.9
