"""`patchserve classify` as a process: terminals, pipes, signals, and limits."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.core.process import INTERRUPTED, SIGNAL_BASE

SAMPLES = Path(__file__).parents[2] / "samples"
COMMAND = [sys.executable, "-m", "app", "classify"]
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 3,000 images, whose answers take some seconds."""
    folder = tmp_path_factory.mktemp("many")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    image.save(folder / "0000.jpg")
    for number in range(1, 3000):
        os.link(folder / "0000.jpg", folder / f"{number:04}.jpg")
    return folder


def test_the_settings_of_the_service_name_the_formats(truth, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.open(SAMPLES / next(iter(truth))).convert("RGB")
    pillow_heif.from_pillow(image).save(tmp_path / "a.heic")
    ended = subprocess.run(
        [*COMMAND, str(tmp_path / "a.heic"), "--json"],
        env={**os.environ, "PATCHSERVE_IMAGE_FORMATS": "heic"},
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["predictions"]


def test_an_interrupt_leaves_whole_lines_and_has_its_status(many, tmp_path):
    out = tmp_path / "results.jsonl"
    command = [*COMMAND, str(many), "--json", "--out", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()  # the first answer
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=TIMEOUT_S)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert process.returncode == INTERRUPTED
    assert 0 < len(rows) < 3000
    assert messages == f"patchserve: interrupted after {len(rows):,} of 3,000 images\n"


def test_a_reader_that_has_enough_ends_the_command_in_silence(many):
    command = [*COMMAND, str(many), "--csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(TIMEOUT_S) == SIGNAL_BASE + signal.SIGPIPE
        assert process.stderr.read() == b""


def test_a_terminal_shows_the_progress_and_results_stay_in_the_pipe(truth):
    controller, terminal = pty.openpty()
    images = [str(SAMPLES / name) for name in truth]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    ended = subprocess.run(
        [*COMMAND, *images, "--json"],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment,
        timeout=TIMEOUT_S,
    )
    os.close(terminal)
    shown = read_all(controller).decode()
    assert [json.loads(line)["file"] for line in ended.stdout.splitlines()] == images
    assert f"of {len(images)} images" in shown
    assert f"{len(images)} images in " in shown.splitlines()[-1]


def read_all(terminal: int) -> bytes:
    """What was written to a terminal that no process has open any more."""
    data = b""
    while True:
        try:
            data += os.read(terminal, 2**16)
        except OSError:  # the end, on Linux
            os.close(terminal)
            return data
