"""The form of a classifier's results: on standard output, in a file, or both."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self

from app.cli.report import Body, Columns, Csv, JsonLines, Print, Report, Several
from app.engine.interface import ModelInfo

FILE_FORMS: Mapping[str, type[JsonLines] | type[Csv]] = MappingProxyType(
    {".jsonl": JsonLines, ".csv": Csv}
)


class LabelForm(NamedTuple):
    """The flags that choose the form.

    Attributes:
        as_json: print JSON lines.
        as_csv: print CSV.
        out: write a file in the form of its suffix. Without another flag, nothing is printed.
    """

    as_json: bool
    as_csv: bool
    out: Path | None

    def checked(self) -> Self:
        """The same form.

        Raises:
            ValueError: the flags exclude each other, or the file has another suffix.
        """
        if self.as_json and self.as_csv:
            raise ValueError("--json and --csv exclude each other")
        if self.out is not None and self.out.suffix not in FILE_FORMS:
            raise ValueError(f"--out must end in {' or '.join(FILE_FORMS)}, not {self.out.name!r}")
        return self

    @contextmanager
    def report(
        self, files: Sequence[Path], info: ModelInfo, print_line: Print
    ) -> Iterator[Report[Body]]:
        """Open the report.

        Args:
            files: all files.
            info: of the model.
            print_line: prints on standard output.

        Raises:
            OSError: the file cannot be written.
        """
        printed = self._printed(files, info, print_line)
        if self.out is None:
            yield Several(*printed)
            return
        with lines_of(self.out) as write_line:
            yield Several(*printed, FILE_FORMS[self.out.suffix](write_line))

    def _printed(
        self, files: Sequence[Path], info: ModelInfo, print_line: Print
    ) -> list[Report[Body]]:
        if self.as_json:
            return [JsonLines(print_line)]
        if self.as_csv:
            return [Csv(print_line)]
        if self.out is not None:
            return []
        return [Columns(print_line, files, info, bars=sys.stdout.isatty())]


@contextmanager
def lines_of(out: Path) -> Iterator[Print]:
    """Open a file for lines; each is in the file as soon as it is printed.

    Raises:
        OSError: it cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    # a name may have bytes that are not text; what replaces them is valid in JSON
    with out.open("w", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
        yield lambda line: file.write(f"{line}\n")
