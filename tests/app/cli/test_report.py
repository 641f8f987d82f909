"""The forms of results: columns, JSON lines and CSV."""

import csv
import json
from pathlib import Path

import pytest

from app.cli.answering import Failure
from app.cli.display import printable
from app.cli.report import Columns, Csv, JsonLines, WrittenFiles
from app.engine.interface import ModelInfo
from models.preprocessing import Preprocessing

LABELS = ("a long label, with a comma", "disc")
BODY = {
    "model": "shapes",
    "predictions": [
        {"label": LABELS[0], "index": 0, "score": 0.75},
        {"label": LABELS[1], "index": 1, "score": 0.25},
    ],
}
EMPTY = {"model": "shapes", "predictions": []}
FILES = [Path("a.png"), Path("photos/b.png")]


def info(problem_type: str = "single_label_classification") -> ModelInfo:
    return ModelInfo(
        "classify", LABELS, Preprocessing(), "cpu", "float32", 1, problem_type=problem_type
    )


def test_json_lines_have_the_members_of_the_response_and_the_file():
    lines: list[str] = []
    report = JsonLines(lines.append)
    report.answer(FILES[0], BODY)
    report.failure(FILES[1], Failure("it is broken", "invalid_image"))
    assert [json.loads(line) for line in lines] == [
        {"file": "a.png", **BODY},
        {"file": "photos/b.png", "error": "it is broken", "code": "invalid_image"},
    ]


def test_a_small_score_is_not_printed_as_zero():
    lines: list[str] = []
    scores = [(LABELS[0], 0.00001), (LABELS[1], 0.0)]
    predictions = [{"label": label, "index": 0, "score": score} for label, score in scores]
    Columns(lines.append, FILES, info(), bars=False).answer(FILES[0], {"predictions": predictions})
    assert [line[-8:] for line in lines] == ["< 0.01 %", "  0.00 %"]


def test_csv_has_a_row_for_each_label_and_for_each_file_without_labels():
    lines: list[str] = []
    report = Csv(lines.append)
    report.answer(FILES[0], BODY)
    report.answer(FILES[1], EMPTY)
    report.failure(Path("c.png"), Failure("it is broken", "invalid_image"))
    assert list(csv.reader(lines)) == [
        ["file", "rank", "label", "index", "score", "error", "code"],
        ["a.png", "1", LABELS[0], "0", "0.75", "", ""],
        ["a.png", "2", "disc", "1", "0.25", "", ""],
        ["photos/b.png", "", "", "", "", "", ""],
        ["c.png", "", "", "", "", "it is broken", "invalid_image"],
    ]


def test_columns_are_aligned_over_all_files():
    lines: list[str] = []
    report = Columns(lines.append, FILES, info(), bars=False)
    report.answer(FILES[0], BODY)
    report.answer(FILES[1], EMPTY)
    assert lines == [
        "a.png         a long label, with a comma   75.00 %",
        "              disc                         25.00 %",
        "photos/b.png  (no label)",
    ]


def test_bars_are_as_long_as_their_scores():
    lines: list[str] = []
    Columns(lines.append, FILES, info(), bars=True).answer(FILES[0], BODY)
    assert [line.count("█") for line in lines] == [15, 5]


def test_values_of_a_regression_are_no_percentages():
    lines: list[str] = []
    Columns(lines.append, FILES, info("regression"), bars=True).answer(FILES[0], BODY)
    assert lines[0].endswith("comma  0.7500")


def test_results_in_files_are_printed_beside_their_images():
    lines: list[str] = []
    report = WrittenFiles(lines.append, {FILES[0]: Path("out/a.png"), FILES[1]: Path("out/b.png")})
    report.answer(FILES[0], {})
    assert lines == ["a.png         out/a.png"]


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "a\udcff"])
def test_a_name_cannot_control_the_terminal(text):
    assert printable(text) == "".join(c if c in "ab[2J" else "?" for c in text)
