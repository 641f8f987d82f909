"""Our network in mosec: its front is in Rust, and its workers decode, run and answer.

Knows nothing of the other peers.
"""

import os
import sys
from typing import Any

import mosec

from bench.serving.peers.classifier import FOLDER, RUNTIME, Classifier

WORKERS, BATCH, WAIT_MS = 2, 8, 1


class Worker(mosec.Worker):
    """What one worker does; it answers in JSON unless told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._classifier = Classifier()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, Any]]:
        return self._classifier(data)


def main(folder: str, port: str, runtime: str) -> None:
    """Serve until the process is ended."""
    os.environ |= {FOLDER: folder, RUNTIME: runtime}
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "warning"]
    server = mosec.Server()
    server.append_worker(Worker, num=WORKERS, max_batch_size=BATCH, max_wait_time=WAIT_MS)
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
