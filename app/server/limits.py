"""Owns what a connection may cost, and what it is expected to bring next.

Knows nothing of how that is held.
"""

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection may cost.

    Attributes:
        max_connections: open at the same time.
        turned_away: connections beyond those that are told so at the same time; more are dropped.
        max_header_bytes: of a request line and its headers.
        max_headers: how many of them.
        max_pipelined: requests that wait for the answer to the one before them.
        header_timeout_s: for a request line and headers to come in.
        upload_timeout_s: for a body to come in.
        min_upload_bytes_per_s: how quickly it must, on average, after a grace.
        grace_s: until that is looked at.
        answer_timeout_s: for any more of an answer to be taken.
        linger_s: for the last answer to be taken, by a caller who is still writing.
    """

    max_connections: int = 2048
    turned_away: int = 256
    max_header_bytes: int = 16 * 2**10
    max_headers: int = 100
    max_pipelined: int = 32
    header_timeout_s: float = 10.0
    upload_timeout_s: float = 60.0
    min_upload_bytes_per_s: int = 1024
    grace_s: float = 5.0
    answer_timeout_s: float = 30.0
    linger_s: float = 1.0


class Phase(Enum):
    """What a connection is expected to bring next."""

    IDLE = auto()  # a request, if anything
    HEADERS = auto()  # the rest of a request line and headers
    BODY = auto()
    LINGER = auto()  # nothing that anybody would heed: it lingers
