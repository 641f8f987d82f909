"""Forms of results: columns for people, JSON lines, and CSV."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.cells import cell_len

from app.api.schemas import Prediction
from app.cli.answering import Failure
from app.cli.console import printable
from app.engine.interface import ModelInfo

Print = Callable[[str], object]  # prints lines, whose end it adds
Body = Mapping[str, Any]  # the members of the service's response

CSV_COLUMNS = ("file", "rank", "label", "index", "score", "error", "code")
BAR_WIDTH = 20
MOST_FILE, MOST_LABEL = 48, 48  # characters of a column; a longer text moves the rest of its line


Value = TypeVar("Value", contravariant=True)


class Report(Protocol[Value]):
    """Gets the answers of all files in their order."""

    def answer(self, file: Path, value: Value, /) -> None:
        """Report the answer of a file."""
        ...

    def failure(self, file: Path, failure: Failure) -> None:
        """Report that a file has no answer."""
        ...


class JsonLines:
    """A JSON object on a line for each file: `file`, and the members of the service's response.

    A file that has failed has `error`, the reason, and `code`.
    """

    def __init__(self, print_line: Print) -> None:
        self._print = print_line
        self._encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes one each time

    def answer(self, file: Path, body: Body) -> None:
        """Print the answer of a file."""
        self._print(self._encode({"file": str(file), **body}))

    def failure(self, file: Path, failure: Failure) -> None:
        """Print why a file has no answer."""
        self.answer(file, {"error": failure.reason, "code": failure.code})


class Csv:
    """A row for each label of each file, with a header; `rank` counts from 1.

    A file without labels, or that has failed, has one row.
    """

    def __init__(self, print_line: Print) -> None:
        self._print = print_line
        self._rows = csv.writer(self, lineterminator="")
        self._rows.writerow(CSV_COLUMNS)

    def write(self, row: str) -> None:
        """Print a row; the csv module calls it."""
        self._print(row)

    def answer(self, file: Path, body: Body) -> None:
        """Print the labels of a file."""
        predictions: Sequence[Prediction] = body["predictions"]
        for rank, each in enumerate(predictions, 1):
            self._rows.writerow([file, rank, each["label"], each["index"], each["score"], "", ""])
        if not predictions:
            self._rows.writerow([file, *[""] * (len(CSV_COLUMNS) - 1)])

    def failure(self, file: Path, failure: Failure) -> None:
        """Print why a file has no answer."""
        self._rows.writerow([file, *[""] * (len(CSV_COLUMNS) - 3), *failure])


class Columns:
    """Aligned columns for people: file, label, score, and a bar of the score on a terminal.

    Args:
        print_line: prints a line.
        files: all files.
        info: of the model.
        bars: whether to draw bars.
    """

    def __init__(
        self, print_line: Print, files: Sequence[Path], info: ModelInfo, *, bars: bool
    ) -> None:
        self._print = print_line
        self._file_width = width(files, MOST_FILE)
        self._label_width = width(info.labels, MOST_LABEL)
        self._percent = info.problem_type != "regression"
        self._bars = bars and self._percent

    def answer(self, file: Path, body: Body) -> None:
        """Print a line for each label; the first one has the file."""
        predictions: Sequence[Prediction] = body["predictions"]
        name = printable(file)
        for each in predictions:
            label = padded(printable(each["label"]), self._label_width)
            line = f"{padded(name, self._file_width)}  {label}  {self._score(each['score'])}"
            self._print(line.rstrip())
            name = ""
        if not predictions:
            self._print(f"{padded(name, self._file_width)}  (no label)")

    def failure(self, file: Path, failure: Failure) -> None:
        """Print nothing: standard error has the reason."""

    def _score(self, score: float) -> str:
        if not self._percent:
            return f"{score:.4f}"
        bar = "█" * round(score * BAR_WIDTH) if self._bars else ""
        number = "< 0.01" if 0 < score < 0.00005 else f"{100 * score:.2f}"
        return f"{number:>6} %  {bar}"


class WrittenFiles:
    """Aligned columns for people: each file, and the file with its result.

    Args:
        print_line: prints a line.
        target_of: the result of each file.
    """

    def __init__(self, print_line: Print, target_of: Mapping[Path, Path]) -> None:
        self._print = print_line
        self._target_of = target_of
        self._width = width(list(target_of), MOST_FILE)

    def answer(self, file: Path, value: object) -> None:
        """Print the two files."""
        name = padded(printable(file), self._width)
        self._print(f"{name}  {printable(self._target_of[file])}")

    def failure(self, file: Path, failure: Failure) -> None:
        """Print nothing: standard error has the reason."""


class Several:
    """Several reports of the same answers."""

    def __init__(self, *reports: Report[Body]) -> None:
        self._reports = reports

    def answer(self, file: Path, body: Body) -> None:
        """Report the answer of a file."""
        for report in self._reports:
            report.answer(file, body)

    def failure(self, file: Path, failure: Failure) -> None:
        """Report that a file has no answer."""
        for report in self._reports:
            report.failure(file, failure)


def width(texts: Sequence[object], most: int) -> int:
    """The width of a column, in characters of a terminal."""
    return min(most, max(cell_len(printable(text)) for text in texts))


def padded(text: str, columns: int) -> str:
    """The text with spaces up to a width in characters of a terminal."""
    return text + " " * (columns - cell_len(text))
