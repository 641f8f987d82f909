"""API keys: which texts are valid keys, how a file of keys is read, and the check of a request."""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from app.core.errors import Unauthorized

VALID_KEY = re.compile(r"[!-+\--~]{16,512}")  # visible ASCII except the comma, which separates keys
CHALLENGE = {"WWW-Authenticate": "Bearer"}


def validate_keys(keys: Iterable[str]) -> list[str]:
    """Return the keys without duplicates.

    Raises:
        ValueError: there is no key, or a key is too easy to guess or does not fit into a header.
            The message has the key's number, never the key.
    """
    found = list(dict.fromkeys(keys))
    if not found:
        raise ValueError("there is no API key")
    for number, key in enumerate(found, 1):
        if VALID_KEY.fullmatch(key) is None:
            raise ValueError(
                f"API key {number} of {len(found)} is not 16 to 512 visible ASCII characters "
                "without commas"
            )
    return found


def read_keys(file: Path) -> list[str]:
    """Read the keys of a file, one per line, without validating them.

    Empty lines and lines that start with # are ignored.

    Raises:
        ValueError: the file has no key.
        OSError: the file cannot be read.
    """
    lines = [line.strip() for line in file.read_bytes().decode(errors="replace").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"there is no API key in {file}")
    return keys


class Keyring:
    """The API keys of the service.

    Args:
        keys: the keys, at least one.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def authenticate(self, headers: Sequence[tuple[bytes, bytes]]) -> int:
        """Return the number of the key that a request has, and refuse a request without one.

        The time of the check reveals nothing about the keys: it compares digests of equal length,
        and always all of them.

        Args:
            headers: of the ASGI scope; keys are read from `Authorization: Bearer` and `X-API-Key`.

        Raises:
            Unauthorized: the headers contain none of the keys.
        """
        sent = [_digest(key) for key in _sent_keys(headers)]
        found = 0
        for number, digest in enumerate(self._digests, 1):
            for sent_digest in sent:
                found = max(found, number * compare_digest(digest, sent_digest))
        if not found:
            detail = (
                "the API key is not one of this service"
                if any(_sent_keys(headers))
                else "send an API key of this service, as Authorization: Bearer or as X-API-Key"
            )
            raise Unauthorized(detail, headers=CHALLENGE)
        return found


def _sent_keys(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
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
