"""The comparison of a loaded checkpoint with what its own library computes from images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models.preprocessing import fit, normalize, to_rgb


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
