"""Serves the app on an engine without computation, or a bare ASGI app; used by bench.edge."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn

from app.cli.run import protocol
from app.core.settings import Settings
from app.core.types import Task
from app.engine.interface import BatchResult, EngineInput, ModelInfo, Ranking
from app.main import create_app
from app.observability import logs
from models.preprocessing import Preprocessing

ANSWER = b'{"model":"instant","predictions":[' + b'{"label":"x","index":0,"score":0.2},' * 5 + b"]}"
STAGES = {"stage_in": 0.0, "compute": 0.0, "postprocess": 0.0}
BATCH_S = 1e-4  # reported cost of an image; near 0, a pause would count as an endless slowdown
BEST = Ranking(list(range(5)), [0.2] * 5)


class Instant:
    """An engine that returns a constant result."""

    def __init__(self, source: str, *, task: Task, **options: object) -> None:
        self._task = task

    def load(self) -> ModelInfo:
        """Return the description of a classifier for 8 x 8 pixels."""
        labels = tuple(f"label {index}" for index in range(1000))
        return ModelInfo(self._task, labels, Preprocessing(size=(8, 8)), "cpu", "float32", 0)

    def warm_up(self, max_batch_size: int, budget_s: float) -> dict[int, float]:
        """Return a small cost for each batch size."""
        return {size: BATCH_S * size for size in (1, max_batch_size)}

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        """Return the same result for every image."""
        return BatchResult([BEST] * len(inputs), STAGES)

    def memory(self) -> dict[str, int]:
        """Return no memory sizes."""
        return {}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, and send a response as large as the service's."""
    if scope["type"] != "http":
        return
    while (await receive())["more_body"]:
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def main(which: str, port: str) -> None:
    """Serve `bare` or `ours`, with the server options of `patchserve serve`."""
    logs.configure("info")  # the access log is part of the measured cost
    settings = Settings(segmenter="none")
    app = bare if which == "bare" else create_app(settings, Instant)
    options: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False}
    if which == "ours":
        options |= {"http": protocol(settings), "ws": "none", "proxy_headers": False}
    lifespan = "off" if which == "bare" else "on"
    uvicorn.run(app, port=int(port), lifespan=lifespan, timeout_keep_alive=75, **options)
    logging.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
