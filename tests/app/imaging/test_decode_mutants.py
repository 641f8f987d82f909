"""Mutated images are decoded, or refused with one of the documented errors."""

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

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of invalid metadata


def outcome(data: bytes, number: int) -> str:
    """Decode as the service does, and return `ok` or the code of the error."""
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


def test_all_seeds_but_three_are_decoded():
    assert Counter(outcome(seed, 0) for seed in seeds()) == {
        "ok": len(seeds()) - 3,
        "unsupported_image_format": 3,  # a run-length-compressed BMP, and gray of 32 bits
    }


def test_mutants_are_decoded_or_refused():
    outcomes = Counter(outcome(mutant(number), number) for number in range(QUICK))
    assert set(outcomes) == {"ok", *(refusal.code for refusal in REFUSALS)}
    assert min(outcomes["ok"], outcomes["invalid_image"]) > QUICK / 10


@pytest.mark.slow
def test_many_mutants_are_decoded_or_refused():
    outcomes = Counter(outcome(mutant(number), number) for number in range(QUICK, MANY))
    assert sum(outcomes.values()) == MANY - QUICK
