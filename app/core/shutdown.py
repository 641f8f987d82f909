"""Owns how far a service is on its way out, and what that means for who asks it.

Knows nothing of signals, sockets or processes: a server moves it on.
"""

import time
from collections.abc import Callable

from app.core.errors import Draining, NotReady, ServiceError

RETRY_AFTER_S = 1.0  # over a new connection, which somebody else takes
BROKEN = "the service cannot go on and ends; its log says why"


class Shutdown:
    """The end of a service, from before it has begun: serving, lame duck, refusing, overdue.

    A lame duck is not ready any more, and still takes work: who sends it some has not heard yet.
    At any time the service may also find that it cannot go on.

    Attributes:
        lame_duck_s: how long work is still taken after being told to leave, in seconds.
        timeout_s: how long what is in flight is waited for after that, in seconds.
        opened: whether work has ever been taken; before that there is nothing to wait for.

    Args:
        lame_duck_s: see above.
        timeout_s: see above.
        clock: the monotonic time in seconds.
    """

    def __init__(
        self, lame_duck_s: float, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lame_duck_s = lame_duck_s
        self.timeout_s = timeout_s
        self.opened = False
        self._clock = clock
        self._told_at: float | None = None
        self._broken = False

    def begin(self) -> None:
        """The service has been told to leave; once more means nothing."""
        if self._told_at is None:
            self._told_at = self._clock()

    def fail(self) -> None:
        """The service cannot go on."""
        self._broken = True

    @property
    def begun(self) -> bool:
        """Whether the service has been told to leave."""
        return self._told_at is not None

    @property
    def broken(self) -> bool:
        """Whether the service cannot go on."""
        return self._broken

    @property
    def refusing(self) -> bool:
        """Whether the time of the lame duck is over."""
        return self._since_told() >= self.lame_duck_s

    @property
    def overdue(self) -> bool:
        """Whether what is still in flight has been waited for long enough."""
        return self._since_told() >= self.lame_duck_s + self.timeout_s

    @property
    def reason_unready(self) -> str | None:
        """Why nobody should send work any more, or None."""
        return self.reason_dead or ("draining" if self.begun else None)

    @property
    def reason_dead(self) -> str | None:
        """Why only a restart can help, or None."""
        return BROKEN if self._broken else None

    @property
    def refusal(self) -> ServiceError | None:
        """What new work is answered with, and what is abandoned; None while work is taken."""
        if self._broken:
            return NotReady(BROKEN, retry_after_s=RETRY_AFTER_S)
        if self.refusing:
            return Draining("the service is leaving", retry_after_s=RETRY_AFTER_S)
        return None

    def _since_told(self) -> float:
        return float("-inf") if self._told_at is None else self._clock() - self._told_at
