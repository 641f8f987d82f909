"""The state of a shutdown: serving, lame duck, refusing, overdue, or failed."""

import time
from collections.abc import Callable

from app.core.errors import RETRY_AFTER_S, Draining, NotReady, ServiceError

FAILED = "the service cannot continue; its log says why"


class Shutdown:
    """The shutdown state of a service. The server starts it; the later states follow
    from the time since then.

    After `begin`, the service is a lame duck: it is not ready, but still accepts requests, because
    load balancers do not know yet. Then it refuses new requests. At any time it can also fail.

    Attributes:
        lame_duck_s: how long requests are still accepted after `begin`, in seconds.
        timeout_s: how long the accepted requests may take after that, in seconds.
        opened: whether the service has ever accepted requests; before that, a shutdown need not
            wait.

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
        self._began_at: float | None = None
        self._failed = False

    def begin(self) -> None:
        """Start the shutdown; a second call changes nothing."""
        if self._began_at is None:
            self._began_at = self._clock()

    def fail(self) -> None:
        """Record that the service cannot continue."""
        self._failed = True

    @property
    def begun(self) -> bool:
        """Whether the shutdown has started."""
        return self._began_at is not None

    @property
    def broken(self) -> bool:
        """Whether the service cannot continue."""
        return self._failed

    @property
    def refusing(self) -> bool:
        """Whether the lame-duck time is over."""
        return self._elapsed() >= self.lame_duck_s

    @property
    def overdue(self) -> bool:
        """Whether the accepted requests have used up their time."""
        return self._elapsed() >= self.lame_duck_s + self.timeout_s

    @property
    def reason_unready(self) -> str | None:
        """Why no more requests should be sent, or None."""
        return self.reason_dead or ("draining" if self.begun else None)

    @property
    def reason_dead(self) -> str | None:
        """Why only a restart can help, or None."""
        return FAILED if self._failed else None

    @property
    def refusal(self) -> ServiceError | None:
        """The error for new and for abandoned requests; None while requests are accepted."""
        if self._failed:
            return NotReady(FAILED, retry_after_s=RETRY_AFTER_S)
        if self.refusing:
            return Draining("the service is shutting down", retry_after_s=RETRY_AFTER_S)
        return None

    def _elapsed(self) -> float:
        return float("-inf") if self._began_at is None else self._clock() - self._began_at
