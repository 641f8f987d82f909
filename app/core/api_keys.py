"""Owns the API keys: which are fit to be one, where they are read, and whether a request has one.

Knows nothing of routes or settings. A key is never logged, told or kept in a message.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from app.core.errors import Unauthorized

FIT = re.compile(r"[!-+\--~]{16,512}")  # visible ASCII but the comma, which separates keys
CHALLENGE = {"WWW-Authenticate": "Bearer"}


def checked(keys: Iterable[str]) -> list[str]:
    """The keys, each once.

    Raises:
        ValueError: there is none, or one could be guessed or not be sent in a header.
    """
    found = list(dict.fromkeys(keys))
    if not found:
        raise ValueError("there is no API key")
    for number, key in enumerate(found, 1):
        if FIT.fullmatch(key) is None:
            raise ValueError(
                f"API key {number} of {len(found)} is not 16 to 512 visible ASCII characters "
                "without commas"
            )
    return found


def keys_in(file: Path) -> list[str]:
    """The keys of a file, one a line, unchecked; a line that begins with # is a comment.

    Raises:
        ValueError: it has none.
        OSError: it cannot be read.
    """
    lines = [line.strip() for line in file.read_bytes().decode(errors="replace").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"there is no API key in {file}")
    return keys


class Keyring:
    """The keys that open the service.

    Args:
        keys: at least one.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def refuse_stranger(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Refuse a request without a key of ours.

        How long that takes tells nothing of them: digests are compared, of equal length, and always
        with all.

        Args:
            headers: ASGI's, by lower-case name; `Authorization: Bearer` and `X-API-Key` count.

        Raises:
            Unauthorized: none of them has one of the keys.
        """
        shown = [_digest(key) for key in _shown(headers)]
        known = 0
        for ours in self._digests:
            for theirs in shown:
                known |= compare_digest(ours, theirs)
        if not known:
            detail = "send an API key of this service, as Authorization: Bearer or as X-API-Key"
            raise Unauthorized(detail, headers=CHALLENGE)


def _shown(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    keys = []
    for name, value in headers:
        if name == b"x-api-key":
            keys.append(value.strip())
        elif name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                keys.append(key.strip())
    return keys


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
