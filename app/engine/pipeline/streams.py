"""The stream interface of a device, and its CPU version, which does everything at once."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

Outputs = tuple[Tensor, ...]


class Event(Protocol):
    """A point in the work of a stream."""

    def wait(self) -> None:
        """Wait until all work before the event is done."""
        ...

    def since(self, earlier: Self) -> float:
        """Seconds since an earlier event; the work before both must be done."""
        ...


class Recorded(NamedTuple):
    """Recorded work: `replay` enqueues all of it, and always writes to the same `outputs`."""

    replay: Callable[[], object]
    outputs: Outputs


class GraphRecorder(Protocol):
    """Records work on fixed memory, so that one call can enqueue all of it."""

    def record(self, work: Callable[[], Outputs]) -> Recorded:
        """Record the work that a function enqueues.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        ...


class Streams(Protocol):
    """The two streams of a device: one copies to it, one computes. For one thread.

    Attributes:
        recorder: None if recording is of no use.
    """

    recorder: GraphRecorder | None

    def as_current_device(self) -> AbstractContextManager[object]:
        """Within this context, work is enqueued on this device."""
        ...

    def buffers(self, length: int) -> tuple[Tensor, Tensor]:
        """Memory on the host and on the device, each uint8 (length,)."""
        ...

    def upload(self, host: Tensor, device: Tensor) -> tuple[Event, Event]:
        """Copy to the device while it computes; later work waits for the copy.

        Args:
            host: the source.
            device: the target.

        Returns:
            The events before and after the copy.
        """
        ...

    def record_event(self) -> Event:
        """An event after all work so far."""
        ...


class HostEvent:
    """A point in time: on a CPU, all earlier work is done."""

    def __init__(self) -> None:
        self._time = time.monotonic()

    def wait(self) -> None:
        """Return at once."""

    def since(self, earlier: Self) -> float:
        """Seconds since an earlier event."""
        return self._time - earlier._time


class HostStreams:
    """The streams of a CPU: host and device share their memory, and all work is done at once.

    It has no state: any number of threads may use it.
    """

    def __init__(self, recorder: GraphRecorder | None = None) -> None:
        self.recorder = recorder

    def as_current_device(self) -> AbstractContextManager[object]:
        """A context without effect: there is only one CPU."""
        return nullcontext()

    def buffers(self, length: int) -> tuple[Tensor, Tensor]:
        """The same memory twice, uint8 (length,)."""
        memory = torch.empty(length, dtype=torch.uint8)
        return memory, memory

    def upload(self, host: Tensor, device: Tensor) -> tuple[HostEvent, HostEvent]:
        """Two equal events: nothing needs to be copied."""
        event = HostEvent()
        return event, event

    def record_event(self) -> HostEvent:
        """The current time."""
        return HostEvent()
