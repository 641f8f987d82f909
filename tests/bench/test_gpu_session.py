"""bench.gpu_session with pieces that only print, and once with its real pieces on a CPU."""

import json
import subprocess
import sys

import pytest

from bench import gpu_session
from bench.gpu_pieces import TORCH, Bound, Piece, pieces
from bench.gpu_session import Result, missed, still_to_show, table_rows

TABLE = "| network | batch | ratio |\n|---|---|---|\n| B | 1 | 0.10 |\n| B | 8 | 0.30 |\n"
WEB = {"fastapi", "starlette", "pydantic", "pydantic_settings", "uvicorn", "typer"}


def piece(name, program, **more):
    """A piece that runs a program of Python."""
    return Piece(name, ["-c", program], f"what {name} shows", **{"modules": (), **more})


@pytest.fixture
def session(monkeypatch, tmp_path, capsys):
    """Run the session with these pieces; return the output and the stored results."""

    def run(fakes, *arguments):
        monkeypatch.setattr(gpu_session, "pieces", lambda device, out, *, quick: fakes)
        gpu_session.main(["--device", "cpu", "--out", str(tmp_path), *arguments])
        stored = {file.stem: json.loads(file.read_text()) for file in tmp_path.glob("*.json")}
        return capsys.readouterr().out, stored

    return run


@pytest.fixture
def counted(tmp_path):
    """A piece that appends a character to a file, and the file."""
    file = tmp_path / "runs"
    return piece("counted", f"open({str(file)!r}, 'a').write('x')"), file


def test_a_passed_piece_is_stored_with_its_figures_and_the_end_of_its_output(session):
    _, stored = session([piece("one", "print('first'); print('{\"rate\": 3}')")])
    one = stored["one"]
    assert (one["status"], one["device"], one["quick"]) == ("passed", "cpu", False)
    assert one["figures"] == {"rate": 3}
    assert one["tail"].startswith("first\n")


def test_a_failed_piece_does_not_stop_the_next_one(session):
    broken = piece("broken", "raise SystemExit('no device')")
    out, stored = session([broken, piece("next", "")])
    assert [stored[name]["status"] for name in ("broken", "next")] == ["failed", "passed"]
    assert "no device" in stored["broken"]["tail"]
    assert "- broken: what broken shows (failed)" in out


def test_a_piece_is_ended_after_its_timeout_and_its_figures_are_kept(session):
    endless = "import signal; print('{\"rows\": 1}', flush=True); signal.pause()"
    for timeout_s in (2.0, 20.0):  # Python may start slowly on a busy machine
        _, stored = session([piece("endless", endless, timeout_s=timeout_s)], "--again")
        assert stored["endless"]["status"] == "timed out"
        if stored["endless"]["figures"]:
            break
    assert stored["endless"]["figures"] == {"rows": 1}


def test_a_second_run_skips_finished_pieces(session, counted):
    one, file = counted
    session([one])
    session([one])
    assert file.read_text() == "x"


def test_again_runs_finished_pieces_again(session, counted):
    one, file = counted
    session([one])
    session([one], "--again")
    assert file.read_text() == "xx"


def test_a_result_of_a_rehearsal_does_not_count_for_the_full_run(session, counted):
    one, file = counted
    session([one], "--quick")
    session([one])
    assert file.read_text() == "xx"


def test_a_damaged_result_is_measured_again(session, counted, tmp_path):
    one, file = counted
    (tmp_path / "counted.json").write_text('{"status": "pas')
    session([one])
    assert file.read_text() == "x"


def test_only_runs_the_named_pieces_and_lists_the_others(session, counted):
    one, file = counted
    out, _ = session([one, piece("other", "")], "--only", "other")
    assert not file.exists()
    assert "| counted | not run |" in out
    assert "- counted: what counted shows (did not run)" in out


def test_a_piece_for_cuda_is_not_run_on_a_cpu(session):
    out, stored = session([piece("kernel", "raise SystemExit(1)", cuda=True)])
    assert stored["kernel"]["status"] == "needs CUDA"
    assert "- kernel: what kernel shows (needs CUDA)" in out


def test_a_piece_says_which_modules_and_programs_are_missing(session):
    needy = piece("needy", "", modules=("json", "no_such_module"), programs=("no-such-program",))
    _, stored = session([needy])
    assert stored["needy"]["status"] == "needs no_such_module, no-such-program"


def test_a_piece_that_could_not_run_is_tried_again(session, counted):
    one, file = counted
    session([one._replace(modules=("no_such_module",))])
    session([one])
    assert file.read_text() == "x"


def test_the_table_is_printed_and_written(session, tmp_path):
    out, _ = session([piece("one", ""), piece("two", "", cuda=True)])
    written = (tmp_path / "summary.md").read_text()
    assert written in out
    assert [row["status"] for row in table_rows(written)] == ["passed", "needs CUDA"]


@pytest.mark.parametrize(
    ("status", "device", "quick", "why"),
    [
        ("passed", "cuda", False, ""),
        ("passed", "cuda", True, "ran with --quick only"),
        ("passed", "cpu", False, "ran on a CPU only"),
        ("timed out", "cuda", False, "timed out"),
    ],
)
def test_only_a_full_run_on_a_gpu_shows_something(status, device, quick, why):
    assert still_to_show(piece("one", ""), Result(status, 1.0, device, quick)) == why


def test_the_rows_of_tables_are_figures():
    assert gpu_session.figures(f"# Title\n\n{TABLE}")[1] == {
        "network": "B",
        "batch": "8",
        "ratio": "0.30",
    }


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        (Bound("B", "ratio", 0.25), ""),
        (Bound("B", "ratio", 0.4), "B: 0.3, expected >= 0.4"),
        (Bound("B", "", 1.0, at_most=True), ""),
        (Bound("B", "ratio", 0.05, at_most=True), "B: 0.1, expected <= 0.05"),
        (Bound("absent", "ratio", 0.4), "absent: no figure"),
    ],
)
def test_the_best_figure_of_the_rows_is_compared_with_a_bound(bound, message):
    assert missed(bound, table_rows(TABLE)) == message


def test_a_missed_bound_is_listed_with_the_figure():
    result = Result("missed its bound", 1.0, "cuda", False, ["B: 0.3, expected >= 0.4"])
    expected = "missed its bound; B: 0.3, expected >= 0.4"
    assert still_to_show(piece("one", ""), result) == expected


def test_every_piece_has_its_own_name_and_less_than_ten_minutes(tmp_path):
    for quick in (False, True):
        listed = pieces("cuda", tmp_path, quick=quick)
        assert len({one.name for one in listed}) == len(listed)
        assert all(one.timeout_s < 600 for one in listed)


def test_pieces_that_need_torch_only_import_no_web_framework(tmp_path):
    listed = [one for one in pieces("cuda", tmp_path, quick=False) if one.modules in ((), TORCH)]
    modules = sorted({"bench.gpu_session", *(one.command[1] for one in listed)})
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.decode().split()}
    assert not imported & {*WEB, "transformers", "httpx", "matplotlib"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_rehearsal_on_a_cpu_passes_all_pieces_that_need_no_gpu(tmp_path, capsys):
    gpu_session.main(["--device", "cpu", "--quick", "--out", str(tmp_path)])
    rows = table_rows((tmp_path / "summary.md").read_text())
    failures = [row["piece"] for row in rows if row["status"] not in ("passed", "needs CUDA")]
    assert failures == [], capsys.readouterr().out
    needing = {row["piece"] for row in rows if row["status"] == "needs CUDA"}
    assert needing == {"kernel_tests", "tests", "compile", "http_mps"}
