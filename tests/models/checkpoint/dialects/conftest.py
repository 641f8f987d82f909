"""Checkpoints that the original libraries write, with what these libraries compute from images."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models.preprocessing import fit, normalize, to_rgb

LIBRARIES = Path(sys.prefix) / "originals"
WRITERS = Path(__file__).parent / "originals"


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """Return a function that gives the folder of a writer's cases; each writer runs once.

    A writer is a process of its own: the libraries are installed without their dependencies, and
    transformers would use them if it found them.
    """
    written: dict[str, Path] = {}

    def write(name):
        if name not in written:
            folder = tmp_path_factory.mktemp(name)
            env = os.environ | {"PYTHONPATH": os.pathsep.join([str(LIBRARIES), str(WRITERS)])}
            command = [sys.executable, str(WRITERS / f"{name}.py"), str(folder)]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            written[name] = folder
        return written[name]

    return write


@pytest.fixture
def assert_equal(assert_equal_logits):
    """Compare a loaded checkpoint with the input and the output of the original library."""

    @torch.no_grad()
    def check(loaded, case: Path):
        photos = sorted(case.glob("*.png"))
        assert len(photos) >= 3
        for photo in photos:
            expected = load_file(photo.with_suffix(".expected"))
            rgb = fit(to_rgb(Image.open(photo)), loaded.preprocessing)
            pixels = normalize(torch.from_numpy(np.asarray(rgb).copy())[None], loaded.preprocessing)
            assert torch.equal(pixels, expected["pixels"])
            assert_equal_logits(loaded.network(pixels), expected["logits"])

    return check
