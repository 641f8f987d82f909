"""Mutated images: what is not decoded is refused, and nothing else ever comes out."""

import logging
from collections import Counter

import pytest

from app.core.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from app.imaging.decode import decode
from models.preprocessing import Preprocessing
from tests.hostile.mutants import mutant
from tests.hostile.seeds import seeds

REFUSALS = (ImageTooLarge, InvalidImage, UnsupportedImageFormat)
QUICK = 3_000
MANY = 100_000

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata


def outcome(data: bytes, number: int) -> str:
    """Decode as the service does and return the code of what came of it."""
    keep_rgb, scaled = number % 2 == 0, number % 4 == 1
    try:
        photo = decode(
            data,
            Preprocessing(size=(32, 32)),
            max_pixels=1_000_000,
            keep_rgb=keep_rgb,
            scaled=scaled,
        )
    except REFUSALS as refused:
        return refused.code
    assert photo.pixels.shape == (32, 32, 3)
    if photo.rgb is not None:
        assert (photo.rgb.size, photo.rgb.mode) == ((photo.width, photo.height), "RGB")
    return "ok"


@pytest.fixture(autouse=True)
def quiet_pillow(monkeypatch):
    monkeypatch.setattr(logging.getLogger("PIL"), "level", logging.CRITICAL)


def test_the_pictures_they_are_made_from_are_decoded_but_for_one():
    assert Counter(outcome(seed, 0) for seed in seeds()) == {
        "ok": len(seeds()) - 1,
        "unsupported_image_format": 1,  # a BMP compressed by runs
    }


def test_mutants_are_decoded_or_refused():
    outcomes = Counter(outcome(mutant(number), number) for number in range(QUICK))
    assert set(outcomes) == {"ok", *(refusal.code for refusal in REFUSALS)}
    assert min(outcomes["ok"], outcomes["invalid_image"]) > QUICK / 10


@pytest.mark.slow
def test_many_mutants_are_decoded_or_refused():
    outcomes = Counter(outcome(mutant(number), number) for number in range(QUICK, MANY))
    assert sum(outcomes.values()) == MANY - QUICK
