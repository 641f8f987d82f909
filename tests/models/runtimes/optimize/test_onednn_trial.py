import time

import torch
from torch import nn

from models.runtimes.optimize.onednn import is_correct_and_faster, is_faster


class Timed(nn.Module):
    """x + offset; a call advances the test's clock by some seconds."""

    def __init__(self, clock, seconds, offset=0.0):
        super().__init__()
        self.clock, self.seconds, self.offset = clock, seconds, offset

    def forward(self, x):
        self.clock[0] += self.seconds
        return x + self.offset


def trial(monkeypatch, seconds, offset=0.0):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    return is_correct_and_faster(
        lambda: Timed(clock, seconds, offset), Timed(clock, 1.0), torch.ones(3)
    )


def test_a_correct_and_faster_candidate_is_accepted(monkeypatch):
    assert trial(monkeypatch, 0.5)
    assert trial(monkeypatch, 0.5, offset=1e-6)


def test_a_slower_or_wrong_candidate_is_refused(monkeypatch):
    assert not trial(monkeypatch, 1.5)
    assert not trial(monkeypatch, 0.5, offset=1e-3)
    assert not trial(monkeypatch, 0.5, offset=float("nan"))


def test_a_missing_operator_is_refused():
    def missing():
        return torch.ops.mkldnn.no_such_operator

    assert not is_correct_and_faster(missing, nn.Identity(), torch.ones(3))


def test_slow_rounds_due_to_other_load_do_not_decide():
    disturbed = iter([9.0] * 20 + [1.0] * 100)
    assert is_faster(lambda: next(disturbed), lambda: 2.0)
    assert not is_faster(lambda: 2.0, lambda: 1.9)


def test_a_clearly_faster_candidate_ends_the_trial_early():
    rounds = []
    assert is_faster(lambda: rounds.append(1) or 1.0, lambda: 2.0)
    assert len(rounds) <= 8


def test_a_trial_without_a_clear_result_ends_after_its_time(monkeypatch):
    now, rounds = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def call():
        now[0] += 0.02
        rounds.append(1)
        return 1.0

    assert not is_faster(call, call)
    assert len(rounds) < 2 * 12
