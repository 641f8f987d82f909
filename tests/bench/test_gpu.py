"""bench.gpu on a CPU: its output, and its imports."""

import subprocess
import sys

import pytest
import torch

from bench import gpu
from bench.runtimes import execution, peak


@pytest.fixture(autouse=True)
def _small_products(monkeypatch):
    monkeypatch.setitem(peak.SIDE, "cpu", 64)


def test_a_run_on_a_cpu_prints_and_writes_all_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(execution, "ROUNDS", 1)
    arguments = ["--device", "cpu", "--models", "ViT-Ti/16", "--batches", "1"]
    arguments += ["--ways", "eager", "graphs"]  # compilation takes half a minute
    gpu.main([*arguments, "--seconds", "0.001", "--out", str(tmp_path)])
    written = (tmp_path / "gpu.md").read_text()
    assert written in capsys.readouterr().out
    tables = [part.splitlines() for part in written.split("\n\n")[2:]]
    networks, pipelines, label_maps = ([line.split(" | ") for line in t[2:]] for t in tables)
    for lines in (networks, pipelines):
        assert [line[:2] for line in lines] == [["| ViT-Ti/16", "1"]]
        assert all(float(line[2]) > 0 for line in lines)
    assert {line[0] for line in label_maps} == {"| regions", "| white noise"}


def test_an_execution_that_fails_does_not_end_the_run(monkeypatch, capsys):
    def broken(form, images):
        raise RuntimeError("no memory")

    monkeypatch.setitem(gpu.EXECUTIONS, "eager", broken)
    options = gpu.parsed(["--device", "cpu", "--models", "ViT-Ti/16", "--batches", "1"])
    assert gpu.rates("ViT-Ti/16", options) == {1: {"eager": 0.0}}
    assert "ViT-Ti/16, batch 1, eager: RuntimeError: no memory" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_gpu_a_run_prints_a_message_and_writes_nothing(tmp_path, capsys):
    gpu.main(["--out", str(tmp_path)])
    assert "no CUDA device" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_bench_gpu_imports_no_web_framework():
    program = "import sys, bench.gpu; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True
    ).stdout
    imported = {name.partition(".")[0] for name in modules.decode().split()}
    web = {"fastapi", "starlette", "pydantic", "pydantic_settings", "uvicorn", "typer"}
    assert not imported & web
