"""Runs `patchserve serve` with an engine that fails according to the color of an image.

The rest of the service is real. The variables FAULTY_* name the folder of the engine's pipes and
limit its memory.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from app import main
from app.cli import run
from app.engine import lanes
from app.engine.engine import TorchEngine
from app.engine.interface import BatchResult, DeviceLost, EngineInput, ModelInfo, OutOfMemory

WHITE, RED, GREEN, BLUE, YELLOW, CYAN = "white", "red", "lime", "blue", "yellow", "cyan"
HOLD, POISON, HANG, LOSE, DIE, TOO_LARGE = WHITE, RED, GREEN, BLUE, YELLOW, CYAN
PIXELS = {
    (255, 255, 255): HOLD,
    (255, 0, 0): POISON,
    (0, 255, 0): HANG,
    (0, 0, 255): LOSE,
    (255, 255, 0): DIE,
    (0, 255, 255): TOO_LARGE,
}
STUCK_S = 1.0  # instead of half a minute


class FaultyEngine(TorchEngine):
    """The torch engine, with faults."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._gates = Path(os.environ["FAULTY_GATES"])
        self._most = int(os.environ.get("FAULTY_MOST", "1000"))

    def load(self) -> ModelInfo:
        """Load, and report a runtime with threads of its own, so that there is one lane."""
        return replace(super().load(), runtime="openvino")

    def warm_up(self, max_batch_size: int, budget_s: float) -> dict[int, float]:
        """Costs that make a batch of sixteen images the best size."""
        most, self._most = self._most, 1
        super().warm_up(1, budget_s)
        self._most = most
        return {1: 0.015, 16: 0.02}

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        """Start a batch, and fail if an image asks for it."""
        faults = [PIXELS.get(tuple(map(int, image.pixels[0, 0]))) for image in inputs]
        if HOLD in faults:
            (self._gates / "entered").write_text("")
            (self._gates / "gate").read_text()
        if len(inputs) > self._most or TOO_LARGE in faults:
            raise OutOfMemory(f"{len(inputs)} images do not fit")
        if POISON in faults:
            raise ValueError("the poison image")
        if HANG in faults:
            threading.Event().wait()
        if LOSE in faults:
            raise DeviceLost("CUDA error: an illegal\n memory access")
        return partial(self._finish, super().launch(inputs), dies=DIE in faults)

    def _finish(self, wait: Callable[[], BatchResult], *, dies: bool) -> BatchResult:
        batch = wait()
        if dies:  # the lane's thread takes no more work, as if it had ended
            threading.current_thread()._target.__self__.close()  # type: ignore[attr-defined]
        return batch


if __name__ in ("__main__", "__mp_main__"):  # a replica's process imports this file too
    lanes.STUCK_S = STUCK_S
    run.create_app = partial(main.create_app, engine_factory=FaultyEngine)

if __name__ == "__main__":
    from app.__main__ import cli

    cli()
