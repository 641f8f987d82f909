"""Owns child processes that are asked in lines of JSON, and answer so.

Knows nothing of what they are asked.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Child:
    """A process that reads a line of JSON and answers with one or several."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self.pid = process.pid
        self._process = process

    def ask(self, **what: Any) -> None:
        """Send a question."""
        assert self._process.stdin is not None  # noqa: S101  # we made it a pipe
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def hear(self, event: str) -> dict[str, Any]:
        """The next line, which must tell of this event.

        Raises:
            RuntimeError: it tells of another, or the process has ended.
        """
        assert self._process.stdout is not None  # noqa: S101  # we made it a pipe
        said: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        if said.get("event") != event:
            raise RuntimeError(f"{self.name}: {said.get('error', 'the process has ended')}")
        return said


@contextmanager
def child(module: str, *arguments: str, env: Mapping[str, str]) -> Iterator[Child]:
    """`python -m module` as long as the `with` lasts."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(  # noqa: S603  # ourselves
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield Child(module, process)
        finally:
            process.kill()
