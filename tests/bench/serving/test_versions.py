from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bench import serve
from bench.serving import versions
from bench.serving.rounds import Plan, Setup
from bench.serving.servers import SERVERS, Running, Site
from bench.serving.summary import Load, Measurement
from bench.serving.versions import Pair, both_versions, heading, paired_rounds, table

ONE, MANY = Load(concurrency=1), Load(concurrency=32)
ROOT = Path(__file__).parents[3]


def measurement(rate, errors=0):
    return Measurement(rate, 10.0, 15.0, 20.0, errors, 1000 / rate, 0.1, 0.0)


@pytest.fixture
def setup(monkeypatch):
    """Two servers that are measured without processes."""
    kind = SERVERS["patchserve"]
    servers = [Running(name, 0, 0, kind) for name in ("new", "old")]
    rates = {"new": 110.0, "old": 100.0}
    monkeypatch.setattr(Running, "signal", lambda self, number: None)
    monkeypatch.setattr(
        versions, "measure_load", lambda setup, server, run: order(server, rates[server.name])
    )
    measured = []

    def order(server, rate):
        measured.append(server.name)
        return measurement(rate)

    return Setup(servers, {}, None, None), measured


def test_the_version_that_is_measured_first_alternates(setup):
    processes, measured = setup
    pairs = list(paired_rounds(processes, Plan([ONE], 1.0, 3), range(3)))
    assert measured == ["new", "old", "old", "new", "new", "old"]
    assert [(pair.new.rate, pair.old.rate) for _, pair in pairs] == [(110.0, 100.0)] * 3


@pytest.mark.parametrize("old_first", [False, True])
def test_the_start_order_does_not_change_the_order_of_a_pair(old_first, monkeypatch, tmp_path):
    started, warmed = [], []

    @contextmanager
    def launched(name, command, port, log, *, server, env):
        started.append(env["PYTHONPATH"])
        yield Running(name, 0, port, server)

    monkeypatch.setattr(versions, "launched", launched)
    monkeypatch.setattr(versions, "warm_up", lambda setup, server: warmed.append(server.name))
    np.save(tmp_path / "expected.npy", np.zeros(1))
    checkouts, site = (Path("/new"), Path("/old")), Site(tmp_path, "classify", "torch", 0)
    with both_versions(checkouts, site, [], None, old_first) as setup:
        assert [server.name for server in setup.servers] == ["new version", "old version"]
    assert started == (["/old", "/new"] if old_first else ["/new", "/old"])
    assert warmed[0] == ("old version" if old_first else "new version")


def test_each_load_is_paired_by_itself(setup):
    processes, measured = setup
    pairs = paired_rounds(processes, Plan([ONE, MANY], 1.0, 1), range(1))
    assert [load for load, _ in pairs] == [ONE, MANY]
    assert measured == ["new", "old", "new", "old"]


def test_the_table_has_ratios_with_intervals_and_errors():
    pairs = [Pair(measurement(110.0 + n), measurement(100.0 + n, errors=1)) for n in range(15)]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table("T", {ONE: pairs})]
    assert lines[0] == ["T", "closed, 1", "images/s", "117.0", "107.0", "1.093 (1.090 to 1.097)"]
    assert [line[2] for line in lines[1:]] == ["CPU ms per image", "p50 ms", "p99 ms", "errors"]
    assert lines[-1][3:5] == ["0", "15"]
    head = heading((Path("/new"), Path("/old")), 15)
    assert "15 rounds" in head[2]
    assert {line.count("|") for line in [*head[-2:], *table("T", {ONE: pairs})]} == {7}


def test_defaults_of_a_comparison():
    options = serve.parsed(["--against", str(ROOT)])
    assert options.against == ROOT
    assert (list(options.networks), options.rounds) == (["T", "ViT-Ti/16"], 15)
    assert options.loads == [ONE, MANY]
    assert options.plan("T").seconds == 1.5


@pytest.mark.parametrize("arguments", [["/nowhere"], [str(ROOT), "--servers", "FastAPI"]])
def test_a_comparison_refuses_what_is_no_checkout_and_other_servers(arguments, capsys):
    with pytest.raises(SystemExit):
        serve.parsed(["--against", *arguments])
    assert "bench.serve: error:" in capsys.readouterr().err


def test_defaults_without_a_comparison():
    options = serve.parsed([])
    assert options.against is None
    assert (options.rounds, options.plan("T").seconds) == (5, 3.0)
    assert Load(fraction=0.5) in options.loads
