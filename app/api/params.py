"""Owns what a caller asks for beside the image: query parameters, and headers that matter.

Knows nothing of the web framework, nor of what the values are used for.
"""

import re
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from app.api.schemas import LONGEST_MS
from app.core.errors import InvalidParameter, NotAcceptable

TIMEOUT_HEADER = "x-request-timeout-ms"
WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


def known(items: Iterable[tuple[str, str]], names: Collection[str]) -> dict[str, str]:
    """The query, if it has each of these names once at most; a misspelt one must not be ignored.

    Raises:
        InvalidParameter: it has another, or one twice.
    """
    query: dict[str, str] = {}
    for name, value in items:
        if name not in names:
            raise InvalidParameter(f"there is no parameter {name[:40]!r}; there is {_list(names)}")
        if name in query:
            raise InvalidParameter(f"{name} is given more than once")
        query[name] = value
    return query


def integer(name: str, value: str, low: int, high: int) -> int:
    """A whole number from low to high.

    Raises:
        InvalidParameter: it is not one.
    """
    if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
        raise InvalidParameter(f"{name} is a whole number from {low} to {high}, not {value[:40]!r}")
    return int(value)


def choice(name: str, value: str, values: Collection[str]) -> str:
    """One of some words.

    Raises:
        InvalidParameter: it is not one.
    """
    if value not in values:
        raise InvalidParameter(f"{name} is {_list(values)}, not {value[:40]!r}")
    return value


def timeout_s(headers: Mapping[str, str], longest_s: float) -> float:
    """The seconds that a request may take: the server's, unless the caller asks for fewer.

    Raises:
        InvalidParameter: X-Request-Timeout-Ms is not a number of milliseconds.
    """
    asked = headers.get(TIMEOUT_HEADER)
    if asked is None:
        return longest_s
    return min(longest_s, integer("X-Request-Timeout-Ms", asked, 1, LONGEST_MS) / 1000)


@lru_cache(maxsize=32)  # clients send the same few
def accept(header: str | None, *offers: str) -> str:
    """The media type to answer with: the best of the offers by an `Accept` header, else the first.

    Raises:
        NotAcceptable: the header admits none of them.
    """
    parts = [part for part in (header or "").split(",") if part.strip()]
    ranges = dict(_media_range(part) for part in parts or ["*/*"])
    weights = [_weight(ranges, offer) for offer in offers]
    best = max(weights)
    if best <= 0:
        raise NotAcceptable(f"the answer is {_list(offers)}")
    return offers[weights.index(best)]


def _media_range(part: str) -> tuple[str, float]:
    media_range, *options = (piece.strip().lower() for piece in part.split(";"))
    weight = next((option[2:] for option in options if option.startswith("q=")), "1")
    return media_range, float(weight) if WEIGHT.fullmatch(weight) else 0.0


def _weight(ranges: Mapping[str, float], offer: str) -> float:
    """The weight of the most specific range that holds the offer (RFC 9110, 12.5.1)."""
    for media_range in (offer, offer.partition("/")[0] + "/*", "*/*"):
        if media_range in ranges:
            return ranges[media_range]
    return 0.0


def _list(words: Collection[str]) -> str:
    return " or ".join(sorted(words)) or "none"


Headers = Mapping[str, str]


def headers_of(scope: MutableMapping[str, Any]) -> Headers:
    """The values by lower-case name; several lines of a name mean their list (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
