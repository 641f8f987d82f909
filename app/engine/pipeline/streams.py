"""Owns what a pipeline asks of a device, and how a CPU gives it: at once, in the caller's thread.

Knows nothing of batches.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

Outputs = tuple[Tensor, ...]


class Event(Protocol):
    """A point in a queue of work."""

    def wait(self) -> None:
        """Return when all work before it is done."""
        ...

    def since(self, earlier: Self) -> float:
        """The seconds from an earlier point; the work before both must be done."""
        ...


class Recorded(NamedTuple):
    """Work that is enqueued as a whole by `replay`, and where its outputs lie each time."""

    replay: Callable[[], object]
    outputs: Outputs


class GraphRecorder(Protocol):
    """Records work on fixed memory, so that it can be enqueued as a whole."""

    def record(self, work: Callable[[], Outputs]) -> Recorded:
        """Record what `work` enqueues. RuntimeError where it cannot be recorded."""
        ...


class Streams(Protocol):
    """A device's two queues, of copies to it and of what it computes. For one thread.

    Attributes:
        recorder: None where recording is of no use.
    """

    recorder: GraphRecorder | None

    def as_current_device(self) -> AbstractContextManager[object]:
        """Within it, what is enqueued goes to this device."""
        ...

    def buffers(self, length: int) -> tuple[Tensor, Tensor]:
        """Memory for so many bytes on the host, and on the device, uint8 (length,)."""
        ...

    def upload(self, host: Tensor, there: Tensor) -> tuple[Event, Event]:
        """Copy to the device beside what it computes; what is enqueued next waits for it.

        Returns the points before and behind the copy.
        """
        ...

    def record_event(self) -> Event:
        """The point behind all that is to be computed so far."""
        ...


class HostEvent:
    """A point in time: all before it is done."""

    def __init__(self) -> None:
        self._time = time.monotonic()

    def wait(self) -> None:
        """Nothing is left to wait for."""

    def since(self, earlier: Self) -> float:
        """The seconds from an earlier point."""
        return self._time - earlier._time


class HostStreams:
    """A CPU: memory of the host is that of the device, and nothing is put off.

    Has no state: any number of threads may use it.
    """

    def __init__(self, recorder: GraphRecorder | None = None) -> None:
        self.recorder = recorder

    def as_current_device(self) -> AbstractContextManager[object]:
        """There is no other device."""
        return nullcontext()

    def buffers(self, length: int) -> tuple[Tensor, Tensor]:
        """The same memory twice, uint8 (length,)."""
        memory = torch.empty(length, dtype=torch.uint8)
        return memory, memory

    def upload(self, host: Tensor, there: Tensor) -> tuple[HostEvent, HostEvent]:
        """Nothing needs to be copied."""
        now = HostEvent()
        return now, now

    def record_event(self) -> HostEvent:
        """Now."""
        return HostEvent()
