"""Our network in mosec: an HTTP server in Rust with workers that decode and run batches."""

import os
import sys
from typing import Any

import mosec

from bench.serving.peers.classifier import FOLDER, RUNTIME, Classifier

WORKERS, BATCH, WAIT_MS = 2, 8, 1


class Worker(mosec.Worker):
    """A worker process; it responds in JSON by default."""

    def __init__(self) -> None:
        super().__init__()
        self._classifier = Classifier()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, Any]]:
        return self._classifier(data)


def main(folder: str, port: str, runtime: str) -> None:
    """Serve until the process is terminated."""
    os.environ |= {FOLDER: folder, RUNTIME: runtime}
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "warning"]
    server = mosec.Server()
    server.append_worker(Worker, num=WORKERS, max_batch_size=BATCH, max_wait_time=WAIT_MS)
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
