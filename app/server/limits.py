"""The limits of one connection, and the phases of what it receives."""

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on connections: counts, sizes and timeouts.

    Attributes:
        max_connections: open connections that are served.
        max_refused: open connections beyond these that get a 503; with more, the oldest is dropped.
        max_header_bytes: size of a request line with its headers.
        max_headers: number of headers of a request.
        max_pipelined: requests of a connection that wait for the response to an earlier request.
        header_timeout_s: time for a request line with its headers to arrive.
        upload_timeout_s: time for a body to arrive.
        min_upload_bytes_per_s: lowest average rate of a body.
        grace_s: age of a body from which on its rate is checked.
        min_download_bytes_per_s: lowest rate at which a client receives a response.
        send_timeout_s: time over which this rate is measured.
        linger_s: time for a client that is still sending to read its last response.
        always_served: paths that are served even on connections beyond `max_connections`.
    """

    max_connections: int = 2048
    max_refused: int = 256
    max_header_bytes: int = 16 * 2**10
    max_headers: int = 100
    max_pipelined: int = 32
    header_timeout_s: float = 10.0
    upload_timeout_s: float = 60.0
    min_upload_bytes_per_s: int = 1024
    grace_s: float = 5.0
    min_download_bytes_per_s: int = 16 * 2**10
    send_timeout_s: float = 30.0
    linger_s: float = 10.0
    always_served: frozenset[str] = frozenset()


class Phase(Enum):
    """What the server expects to receive next on a connection."""

    IDLE = auto()  # the first byte of a request
    HEADERS = auto()  # the rest of a request line with its headers
    BODY = auto()  # the rest of a body
    LINGER = auto()  # nothing: input is discarded until the client closes the connection
