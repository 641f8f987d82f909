"""A fake engine, and an app that runs on it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from app.core.settings import Settings
from app.core.types import Task
from app.engine.interface import (
    BatchResult,
    ClassifyInput,
    Confidence,
    EmbedInput,
    EngineInput,
    EngineOutput,
    ExplainInput,
    ModelInfo,
    Ranking,
    Relevance,
    Segmentation,
)
from app.main import EngineFactory, ServeOps, create_app
from app.replicas.reporter import Replica
from models.preprocessing import Preprocessing

LABELS = ("black", "red", "green", "blue")


class FakeEngine:
    """An engine whose outputs depend on the first pixel, with gates that a test can close.

    The label of an image is the strongest channel of its first pixel. A label map has this label
    everywhere, with probability 0.8. An explanation has all relevance in the upper left, or with
    rollout upper right.
    """

    def __init__(self, task: Task, runtime: str = "torch") -> None:
        self.task = task
        self.runtime = runtime
        self.load_gate, self.run_gate, self.entered = _open(), _open(), threading.Event()
        self.batches: list[int] = []
        self.load_error: Exception | None = None
        self.run_error: Exception | None = None

    def load(self) -> ModelInfo:
        self.load_gate.wait(30)
        if self.load_error is not None:
            raise self.load_error
        preprocessing = Preprocessing(size=(8, 8), resample=0)
        return ModelInfo(
            self.task, LABELS, preprocessing, "cpu", "float32", 1234, runtime=self.runtime
        )

    def warm_up(self, max_batch_size: int, budget_s: float) -> dict[int, float]:
        return {1: 0.1, max_batch_size: 0.2}  # so long that no lane prefetches a batch

    def memory(self) -> dict[str, int]:
        return {"allocated": 42}

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        self.entered.set()
        self.run_gate.wait(30)
        if self.run_error is not None:
            raise self.run_error
        (_,) = {type(each) for each in inputs}  # all inputs of a batch have one type
        self.batches.append(len(inputs))
        outputs = [self._output(each) for each in inputs]
        return BatchResult(outputs, {"stage_in": 0.001, "compute": 0.002, "postprocess": 0.001})

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        return partial(self.run, inputs)

    def _output(self, given: EngineInput) -> EngineOutput:
        pixel = given.pixels[0, 0]
        best = 0 if pixel.max() == 0 else 1 + int(pixel.argmax())
        match given:
            case ClassifyInput():
                return self._rank(best, given.top_k)
            case EmbedInput():
                return np.float32([best, 0.5])
            case ExplainInput():
                grid = np.zeros((2, 2), np.float32)
                grid[0, int(given.method == "rollout")] = 1.0
                return Relevance(self._rank(best, given.top_k), grid, 4, [[1.5, 2.5], [3.0, 4.0]])
        labels = np.full(given.size, best, np.uint8)
        if not given.confidence:
            return Segmentation(labels)
        sums = 0.8 * np.bincount(labels.ravel(), minlength=len(LABELS))
        return Segmentation(labels, Confidence(sums, np.full(given.size, 204, np.uint8)))

    def _rank(self, best: int, top_k: int) -> Ranking:
        order = [best, *(index for index in range(len(LABELS)) if index != best)]
        return Ranking(order[:top_k], [0.7, 0.1, 0.1, 0.1][:top_k])


def _open() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


class Running:
    """An app during its lifespan, with a client, its state, and its engines by task."""

    def __init__(
        self, client: httpx.AsyncClient, engines: dict[str, FakeEngine], state: dict[str, Any]
    ) -> None:
        self.client = client
        self.engines = engines
        self.state = state

    async def series(self) -> str:
        return (await self.client.get("/metrics")).text

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Poll a condition; the loop does other work in between."""
        while not await condition():  # noqa: ASYNC110  # the condition has no event
            await asyncio.sleep(0.001)

    async def until_ready(self) -> None:
        async def ready() -> bool:
            return (await self.client.get("/readyz")).status_code == 200

        await self.until(ready)
        for engine in self.engines.values():  # forget the warm-up
            engine.batches.clear()
            engine.entered.clear()

    async def until_series(self, line: str) -> None:
        async def has_line() -> bool:
            return line in await self.series()

        await self.until(has_line)


@pytest.fixture(params=["openvino", "torch"], ids=["one lane", "one lane per core"])
def serve(request) -> Callable[..., AbstractAsyncContextManager[Running]]:
    """Run an app with fake engines: `async with serve(max_queue_size=2) as running`.

    Each test runs twice: with one lane and image threads that decode and encode, as for a runtime
    with threads of its own, and with one lane per core that does everything.
    """

    @asynccontextmanager
    async def serving(
        prepare: Callable[[FakeEngine], None] = lambda engine: None,
        on_fatal: Callable[[Exception], None] = lambda error: None,
        ready: bool = True,
        cores: int = 2,
        replica: Replica | None = None,
        serve_ops: ServeOps | None = None,
        customize: Callable[[FastAPI], object] = lambda app: None,
        root_path: str = "",
        **settings: object,
    ) -> AsyncIterator[Running]:
        engines: dict[str, FakeEngine] = {}

        def factory(source: str, *, task: Task, **options: object) -> FakeEngine:
            engines[task] = FakeEngine(task, request.param)
            prepare(engines[task])
            return engines[task]

        app = create_app(
            Settings(cores=cores, **settings),
            factory,
            on_fatal,
            replica=replica,
            serve_ops=serve_ops,
        )
        customize(app)
        async with app.router.lifespan_context(app) as state:

            async def with_state(scope, receive, send) -> None:
                scope = {**scope, "state": dict(state), "root_path": root_path}
                await app(scope, receive, send)

            transport = httpx.ASGITransport(with_state, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                running = Running(client, engines, dict(state))
                try:
                    if ready:
                        await running.until_ready()
                    yield running
                finally:
                    for engine in engines.values():
                        engine.load_gate.set()
                        engine.run_gate.set()

    return serving


@pytest.fixture
def fake_engines() -> EngineFactory:
    """A factory of fake engines, for `create_app`."""
    return lambda source, *, task, **options: FakeEngine(task)


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """Draw a PNG file with one colour."""

    def draw(colour: str = "red", size: tuple[int, int] = (12, 10)) -> bytes:
        file = BytesIO()
        Image.new("RGB", size, colour).save(file, "PNG")
        return file.getvalue()

    return draw
