"""`python -m bench`: the names of the benchmarks."""

from pathlib import Path

import pytest

import bench
from bench.__main__ import BENCHMARKS, parsed

FOLDER = Path(bench.__path__[0])


def test_every_module_with_a_file_for_its_results_is_a_benchmark():
    found = {file.stem for file in FOLDER.glob("*.py") if "\nRESULTS = " in file.read_text()}
    assert set(BENCHMARKS) == found


def test_given_benchmarks_run_once_and_without_names_all_run():
    assert parsed(["png", "load", "png"]) == ["load", "png"]
    assert parsed([]) == list(BENCHMARKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fidelity"], "no benchmark is called fidelity"),
        (["load", "lod"], "no benchmark is called lod"),
        (["load", "--rounds"], "unrecognized arguments: --rounds"),
    ],
)
def test_an_unknown_name_or_flag_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parsed(arguments)
    assert message in capsys.readouterr().err
