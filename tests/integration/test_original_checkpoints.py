"""Checkpoints that other libraries have written, served by a real process."""

import pytest
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
