"""Child processes that receive requests and send messages as lines of JSON."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Child:
    """A process that reads requests from its standard input and writes messages to its output."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self.pid = process.pid
        self._process = process

    def send(self, **request: Any) -> None:
        """Send a request."""
        assert self._process.stdin is not None  # noqa: S101  # we made it a pipe
        print(json.dumps(request), file=self._process.stdin, flush=True)

    def receive(self, event: str) -> dict[str, Any]:
        """Read the next message, which must be about this event.

        Raises:
            RuntimeError: the message is about another event, or the process has ended.
        """
        assert self._process.stdout is not None  # noqa: S101  # we made it a pipe
        message: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        if message.get("event") != event:
            raise RuntimeError(f"{self.name}: {message.get('error', 'the process has ended')}")
        return message


@contextmanager
def child(module: str, *arguments: str, env: Mapping[str, str]) -> Iterator[Child]:
    """Run `python -m module` until the end of the `with` block."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(  # noqa: S603  # a module of this project
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield Child(module, process)
        finally:
            process.kill()
