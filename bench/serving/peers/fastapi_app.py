"""A plain FastAPI handler over the pipeline of transformers, or over our network.

Each request runs without batching, in a thread of one of two processes.
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
PIPELINE = "pipeline"  # value of RUNTIME for transformers
Classify = Callable[[bytes], Any]


def over_pipeline() -> Classify:
    """Return a classifier that uses the pipeline of transformers."""
    from transformers import pipeline  # importing it takes seconds

    torch.set_num_threads(1)
    classify = pipeline("image-classification", model=os.environ[FOLDER], device="cpu")
    return lambda data: classify(Image.open(BytesIO(data)))


def over_ours() -> Classify:
    """Return a classifier that uses the inference form of the service."""
    classifier = Classifier()
    return lambda data: classifier([data])[0]


def create_app() -> FastAPI:
    """Build the app of one process."""
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
    """Serve until the process is terminated."""
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
