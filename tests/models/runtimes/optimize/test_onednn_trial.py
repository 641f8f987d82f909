import time

import torch
from torch import nn

from models.runtimes.optimize.onednn import passes, quicker


class Timed(nn.Module):
    """x + offset, after some seconds by a clock that the test turns."""

    def __init__(self, clock, seconds, offset=0.0):
        super().__init__()
        self.clock, self.seconds, self.offset = clock, seconds, offset

    def forward(self, x):
        self.clock[0] += self.seconds
        return x + self.offset


def trial(monkeypatch, seconds, offset=0.0):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    return passes(lambda: Timed(clock, seconds, offset), Timed(clock, 1.0), torch.ones(3))


def test_what_is_right_and_quicker_passes(monkeypatch):
    assert trial(monkeypatch, 0.5)
    assert trial(monkeypatch, 0.5, offset=1e-6)


def test_what_is_slower_or_wrong_does_not_pass(monkeypatch):
    assert not trial(monkeypatch, 1.5)
    assert not trial(monkeypatch, 0.5, offset=1e-3)
    assert not trial(monkeypatch, 0.5, offset=float("nan"))


def test_what_is_missing_does_not_pass():
    def missing():
        return torch.ops.mkldnn.no_such_operator

    assert not passes(missing, nn.Identity(), torch.ones(3))


def test_a_few_slow_rounds_of_another_s_load_do_not_decide():
    disturbed = iter([9.0] * 20 + [1.0] * 100)
    assert quicker(lambda: next(disturbed), lambda: 2.0)
    assert not quicker(lambda: 2.0, lambda: 1.9)


def test_what_is_clearly_quicker_is_not_tried_for_long():
    rounds = []
    assert quicker(lambda: rounds.append(1) or 1.0, lambda: 2.0)
    assert len(rounds) <= 8
