"""Our network in LitServe: its workers decode and run batches."""

import os
import sys
from typing import Any

import litserve
from fastapi import Request

from bench.serving.peers.classifier import FOLDER, RUNTIME, Classifier

WORKERS, BATCH, WAIT_S = 2, 8, 0.002


class Api(litserve.LitAPI):
    """The steps of a worker."""

    def setup(self, device: str) -> None:
        self._classifier = Classifier()

    def decode_request(self, request: Request) -> bytes:
        return request["file"].file.read()  # type: ignore[index]  # LitServe passes the form

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, batch: list[bytes]) -> list[dict[str, Any]]:
        return self._classifier(batch)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


def main(folder: str, port: str, runtime: str) -> None:
    """Serve until the process is terminated."""
    os.environ |= {FOLDER: folder, RUNTIME: runtime}
    api = Api(max_batch_size=BATCH, batch_timeout=WAIT_S, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
