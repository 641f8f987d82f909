"""The choice between two forms, with times that the test sets."""

from itertools import count

import pytest
import torch

from models.runtimes import select

PIXELS = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("other_s", "expected"), [(0.5, "other"), (0.97, "default"), (2.0, "default")]
)
def test_the_other_form_must_be_at_least_5_percent_faster(other_s, expected, monkeypatch):
    calls = count()
    forms = {"default": lambda pixels: next(calls), "other": lambda pixels: next(calls) + 0.5}

    def seconds(form, pixels):
        form(pixels)
        return other_s if form is forms["other"] else 1.0

    monkeypatch.setattr(select, "seconds_of", seconds)
    assert select.faster(forms["default"], forms["other"], PIXELS) is forms[expected]
    assert next(calls) == 2 * (2 + select.ROUNDS)


def test_seconds_of_measures_a_call():
    assert select.seconds_of(lambda pixels: pixels + 1, PIXELS) > 0
