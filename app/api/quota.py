"""Owns how many bytes of request bodies the service holds at once.

Knows nothing of where they come from. All that calls it runs on one thread.
"""

import random
from typing import Self

from app.core.errors import Overloaded

RETRY_AFTER_S = 1.0  # an upload takes about that long; nobody knows better


class Quota:
    """What all requests together may hold; one that would hold more is refused, and none waits.

    Args:
        size: bytes at most.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0

    def share(self) -> "Share":
        """What one request holds: nothing yet."""
        return Share(self)


class Share:
    """The part of one request, which grows with what is known of its body, and is given back."""

    def __init__(self, quota: Quota) -> None:
        self.held = 0
        self._quota = quota

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._quota.held -= self.held
        self.held = 0

    def grow(self, size: int) -> None:
        """Hold that many bytes, unless it is as many already.

        Raises:
            Overloaded: all together would hold more than they may.
        """
        more = size - self.held
        if more <= 0:
            return
        quota = self._quota
        if quota.held + more > quota.size:
            raise Overloaded(
                "too many bytes are being uploaded at once",
                retry_after_s=RETRY_AFTER_S * random.uniform(1, 1.5),  # noqa: S311  # no secret
                limits={"max_body_bytes_in_flight": quota.size},
            )
        quota.held += more
        self.held = size
