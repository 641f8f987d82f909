"""Explanations as PNG and JSON."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.api import responses
from app.engine.interface import ModelInfo, Ranking, Relevance
from app.imaging.decode import Photo
from models.preprocessing import Preprocessing

CROPPED = Preprocessing(size=None, shortest_edge=8, crop_size=(8, 8))
INFO = ModelInfo("classify", ("cat", "dog"), CROPPED, "cpu", "float32", 1)
RELEVANCE = Relevance(
    Ranking([1, 0], [0.75, 0.25]), np.float32([[0.1, 0.2], [0.3, 0.4]]), 4, [[1.0], [2.0]]
)


@pytest.fixture
def photo():
    """An image of 32 x 16 pixels; the network gets its middle half as 8 x 8 pixels."""
    rgb = Image.new("RGB", (32, 16), "white")
    return Photo(np.zeros((8, 8, 3), np.uint8), 32, 16, rgb)


def test_the_png_has_the_relevance_where_the_network_saw_it(photo):
    picture = Image.open(BytesIO(responses.explanation_png(INFO, photo, RELEVANCE, "rollout")))
    assert picture.text == {"label": "dog", "score": "0.7500", "method": "rollout"}
    brightness = np.asarray(picture).sum(2, dtype=int)
    assert (brightness[:, :8] == brightness[0, 0]).all()
    assert brightness[12, 20] == brightness.max()


def test_the_json_has_the_position_of_the_grid(photo):
    body = responses.explanation_json("pets", INFO, photo, RELEVANCE, "gradient")
    assert body.box == (8.0, 0.0, 16.0, 16.0)
    assert [each["label"] for each in body.predictions] == ["dog", "cat"]
    assert body.relevance == [pytest.approx([0.1, 0.2]), pytest.approx([0.3, 0.4])]
    assert body.attention_distance == [[1.0], [2.0]]
