"""A handler in FastAPI as written in an afternoon, over transformers' pipeline or our network.

Knows nothing of batches: each request runs by itself, in a thread of one of two processes.
"""

import os
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

from bench.serving.peers.classifier import FOLDER, RUNTIME, Classifier

WORKERS = 2
PIPELINE = "pipeline"  # in place of one of our runtimes
Classify = Callable[[bytes], Any]


def over_pipeline() -> Classify:
    """transformers' own way."""
    from transformers import pipeline  # takes seconds

    torch.set_num_threads(1)
    classify = pipeline("image-classification", model=os.environ[FOLDER], device="cpu")
    return lambda data: classify(Image.open(BytesIO(data)))


def over_ours() -> Classify:
    """The form that the service runs."""
    classifier = Classifier()
    return lambda data: classifier([data])[0]


def create_app() -> FastAPI:
    """The app of one process."""
    app = FastAPI()
    classify = over_pipeline() if os.environ[RUNTIME] == PIPELINE else over_ours()

    @app.get("/ready")
    def ready() -> None:
        return

    @app.post("/classify")
    async def handle(request: Request) -> Any:
        return await run_in_threadpool(classify, await request.body())

    return app


def main(folder: str, port: str, runtime: str) -> None:
    """Serve until the process is ended."""
    os.environ |= {FOLDER: folder, RUNTIME: runtime}
    uvicorn.run(
        f"{__spec__.name}:create_app",
        factory=True,
        port=int(port),
        workers=WORKERS,
        log_level="warning",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
