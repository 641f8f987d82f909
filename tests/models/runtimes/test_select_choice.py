"""The choice between two forms, by the clock that the test sets."""

from itertools import count

import pytest
import torch

from models.runtimes import select

PIXELS = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(("other_s", "chosen"), [(0.5, "other"), (0.97, "usual"), (2.0, "usual")])
def test_the_other_form_must_win_clearly(other_s, chosen, monkeypatch):
    calls = count()
    forms = {"usual": lambda pixels: next(calls), "other": lambda pixels: next(calls) + 0.5}

    def seconds(form, pixels):
        form(pixels)
        return other_s if form is forms["other"] else 1.0

    monkeypatch.setattr(select, "seconds_of", seconds)
    assert select.faster(forms["usual"], forms["other"], PIXELS) is forms[chosen]
    assert next(calls) == 2 * (2 + select.ROUNDS)


def test_the_time_of_a_call_is_told():
    assert select.seconds_of(lambda pixels: pixels + 1, PIXELS) > 0
