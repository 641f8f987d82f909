"""Owns how a batch that failed is run again in parts, until only who is at fault fails.

Knows nothing of queues or threads; it is given what runs a batch.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from app.engine.interface import Batch, DeviceLost, EngineInput, EngineOutput, OutOfMemory

Cause = Literal["error", "out_of_memory"]
Run = Callable[[Sequence[EngineInput]], Batch]
OnSplit = Callable[[Cause, int], object]
Computed = tuple[EngineOutput, dict[str, float]]  # with the seconds of each stage of its batch


def isolated(
    inputs: Sequence[EngineInput],
    run: Run,
    on_split: OnSplit,
    begun: Callable[[], Batch] | None = None,
) -> list[Computed | BaseException]:
    """What became of each input, in order: its output, or what it raises all by itself.

    A batch that fails is cut in halves, which are run alone: of n inputs one that is at fault costs
    2 log2(n) runs. For want of memory, the halves fit or are cut again.

    Args:
        inputs: of one kind and shape.
        run: runs a batch.
        on_split: called with the cause and the size of each batch that is cut.
        begun: waits for the batch of all inputs, where that was begun already.

    Raises:
        DeviceLost: another run would be of no use to anyone.
    """
    try:
        outputs, stages = begun() if begun is not None else run(inputs)
        return [(output, stages) for _, output in zip(inputs, outputs, strict=True)]
    except DeviceLost:
        raise
    except BaseException as error:  # noqa: BLE001  # on a lane's thread, whatever an engine raises
        if len(inputs) == 1:
            return [error]
        on_split("out_of_memory" if isinstance(error, OutOfMemory) else "error", len(inputs))
    half = len(inputs) // 2
    return [
        *isolated(inputs[:half], run, on_split),
        *isolated(inputs[half:], run, on_split),
    ]
