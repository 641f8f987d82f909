"""Checkpoints that other libraries have written, served by a real process."""

from io import BytesIO

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file


@pytest.mark.parametrize(
    ("writer", "path"), [("timm_vit", "deit-distilled"), ("torchvision_vit", "vit_b/model.pth")]
)
def test_scores_over_http_are_those_of_the_library(writer, path, originals, launch):
    source = originals(writer) / path
    case = source if source.is_dir() else source.parent
    with launch("--classifier", source, "--segmenter", "none") as service:
        for photo in sorted(case.glob("*.png")):
            response = service.classify(photo.read_bytes())
            assert response.status_code == 200, response.text
            scores = [each["score"] for each in response.json()["predictions"]]
            logits = load_file(photo.with_suffix(".expected"))["logits"][0]
            expected = logits.softmax(0).sort(descending=True).values
            assert scores == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_mask_over_http_is_that_of_the_library(originals, launch):
    case = originals("smp_segformer") / "b0"
    with launch("--classifier", "none", "--segmenter", case) as service:
        for photo in sorted(case.glob("*.png")):
            response = httpx.post(f"{service.url}/segment", content=photo.read_bytes(), timeout=60)
            assert response.status_code == 200, response.text
            mask = np.asarray(Image.open(BytesIO(response.content)))
            logits = load_file(photo.with_suffix(".expected"))["logits"]
            resized = torch.nn.functional.interpolate(logits, mask.shape, mode="bilinear")[0]
            first, second = resized.topk(2, dim=0).values
            clear = (first - second > 1e-4).numpy()  # in the others, rounding decides
            assert clear.mean() > 0.999
            assert np.array_equal(mask[clear], resized.argmax(0).numpy()[clear])
