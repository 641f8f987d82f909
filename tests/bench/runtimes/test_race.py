import numpy as np
import pytest

from bench import models
from bench.runtimes import worker
from bench.runtimes.contenders import CONTENDERS
from bench.runtimes.job import numpy_of
from bench.runtimes.race import Limits, compare, contender_process, race_batch


class Fake:
    """A contender's process with given results."""

    def __init__(self, name, logits=None, seconds=1.0):
        self.name, self.error = name, ""
        self._logits, self._seconds = logits, seconds

    def request(self, do, **what):
        if self._logits is None:
            self.error = "no runtime"
            return {}
        if do == "logits":
            np.save(what["file"], self._logits)
        return {"seconds": self._seconds} if do == "round" else {}


def test_a_contender_that_cannot_run_has_an_error(tmp_path):
    processes = [Fake("a", np.zeros(3)), Fake("b"), Fake("c", np.array([0, 0.5, 0]))]
    figures = race_batch(processes, tmp_path, 1, "cpu", Limits(rounds=4, seconds=0))
    assert figures["a"].seconds == (1.0,) * 4
    assert figures["b"].error == "no runtime"
    assert figures["b"].seconds == ()
    assert figures["c"].difference == 0.5


def test_a_race_in_which_no_contender_runs_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="b: no runtime"):
        race_batch([Fake("b")], tmp_path, 1, "cpu", Limits(rounds=1, seconds=0))


def test_differences_are_to_the_first_contender_that_ran(tmp_path):
    processes = [Fake("a"), Fake("b", np.ones(2)), Fake("c", np.array([1, 3.0]))]
    assert compare(
        [one for one in processes if one.request("build") or not one.error], tmp_path
    ) == {
        "b": 0.0,
        "c": 2.0,
    }


def test_a_process_reports_its_error_and_gets_no_more_requests(tmp_path):
    with contender_process("OpenVINO", {}, tmp_path / "errors.txt") as process:
        answer = process.request(
            "build", contender="OpenVINO", folder=str(tmp_path), batch=1, device="abacus"
        )
        assert "abacus" in answer["error"]
        assert process.error == answer["error"]
        assert process.request("round") == {}


def test_a_process_that_ends_is_an_error(tmp_path):
    with contender_process(
        "ours", {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}, tmp_path / "e"
    ) as e:
        assert e.request("round")["error"] == "the process ended"


def test_a_round_is_the_median_of_calls(monkeypatch):
    clock = iter([0.0, 0.01, 1.0, 1.03, 2.0, 2.08])
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(clock))
    calls = []
    assert worker.time_round(lambda: calls.append(1)) == pytest.approx(0.03)
    assert len(calls) == 3


def test_the_output_of_every_runtime_becomes_an_array():
    assert numpy_of([np.ones(2)]).dtype == np.float32
    assert numpy_of({"output": np.ones(2)}).tolist() == [1, 1]


@pytest.mark.parametrize("device", CONTENDERS)
def test_every_device_has_the_contender_that_ratios_refer_to(device):
    assert "transformers" in CONTENDERS[device]


@pytest.mark.slow
def test_a_whole_run_writes_a_table_and_a_plot(tmp_path, capsys):
    quick = ["--no-steps", "--rounds", "2", "--seconds", "0", "--out", str(tmp_path)]
    ours = ["--contenders", "ours, plain", "ours"]
    models.main(["--models", "ViT-Ti/16", "--batches", "1", *ours, *quick])
    table = (tmp_path / "models.md").read_text()
    assert table in capsys.readouterr().out
    for name in ("transformers", "ours, plain", "ours", "ours, as served"):
        (line,) = (line for line in table.splitlines() if line.startswith(f"| 1 | {name} |"))
        assert float(line.strip("| ").split("|")[-1]) < 1e-4
    assert (tmp_path / "models.png").is_file()
