"""Parameters and headers of a request: which values are valid, and what they select."""

import re
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from app.api.schemas import MAX_TIMEOUT_MS
from app.core.errors import InvalidParameter, NotAcceptable

TIMEOUT_HEADER = "x-request-timeout-ms"
NUMBER = re.compile(r"-?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE]-?\d{1,3})?", re.ASCII)
WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


def checked(items: Iterable[tuple[str, str]], names: Collection[str]) -> dict[str, str]:
    """The parameters by name; a misspelled name must not be ignored.

    Args:
        items: name and value of each parameter.
        names: the allowed names.

    Raises:
        InvalidParameter: a name is not allowed or occurs twice.
    """
    parameters: dict[str, str] = {}
    for name, value in items:
        if name not in names:
            allowed = ", ".join(sorted(names)) or "none"
            raise InvalidParameter(f"there is no parameter {name[:40]!r}; allowed: {allowed}")
        if name in parameters:
            raise InvalidParameter(f"{name} is given more than once")
        parameters[name] = value
    return parameters


def integer(name: str, value: str, low: int, high: int) -> int:
    """Parse an integer from `low` to `high`.

    Raises:
        InvalidParameter: the value is no such integer.
    """
    if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
        raise InvalidParameter(
            f"{name} must be an integer from {low} to {high}, not {value[:40]!r}"
        )
    return int(value)


def number(name: str, value: str, low: float, high: float) -> float:
    """Parse a number from `low` to `high`.

    Raises:
        InvalidParameter: the value is no such number.
    """
    if not (NUMBER.fullmatch(value) and low <= float(value) <= high):
        raise InvalidParameter(
            f"{name} must be a number from {low:g} to {high:g}, not {value[:40]!r}"
        )
    return float(value)


def boolean(name: str, value: str) -> bool:
    """Parse `true` or `false`.

    Raises:
        InvalidParameter: the value is neither.
    """
    return choice(name, value, ["false", "true"]) == "true"


def choice(name: str, value: str, values: Collection[str]) -> str:
    """Check that a value is one of `values`, and return it.

    Raises:
        InvalidParameter: it is not.
    """
    if value not in values:
        raise InvalidParameter(f"{name} must be {_list(values)}, not {value[:40]!r}")
    return value


def timeout_s(headers: Mapping[str, str], max_s: float) -> float:
    """The timeout of a request in seconds: X-Request-Timeout-Ms, but at most `max_s`.

    Raises:
        InvalidParameter: X-Request-Timeout-Ms is not a number of milliseconds.
    """
    value = headers.get(TIMEOUT_HEADER)
    if value is None:
        return max_s
    return min(max_s, integer("X-Request-Timeout-Ms", value, 1, MAX_TIMEOUT_MS) / 1000)


@lru_cache(maxsize=32)  # clients send only a few different headers
def accept(header: str | None, *offers: str) -> str:
    """Choose the media type of the response.

    Args:
        header: the `Accept` header, or None.
        offers: the possible media types; the first is the default.

    Raises:
        NotAcceptable: the header allows none of the offers.
    """
    parts = [part for part in (header or "").split(",") if part.strip()]
    ranges = dict(_media_range(part) for part in parts or ["*/*"])
    weights = [_weight(ranges, offer) for offer in offers]
    best = max(weights)
    if best <= 0:
        raise NotAcceptable(f"the response can only be {_list(offers)}")
    return offers[weights.index(best)]


def is_named(media_type: str, header: str | None) -> bool:
    """Whether an `Accept` header names a media type itself, and not only a range like `*/*`."""
    ranges = dict(_media_range(part) for part in (header or "").split(","))
    return ranges.get(media_type, 0.0) > 0


def _media_range(part: str) -> tuple[str, float]:
    media_range, *options = (piece.strip().lower() for piece in part.split(";"))
    weight = next((option[2:] for option in options if option.startswith("q=")), "1")
    return media_range, float(weight) if WEIGHT.fullmatch(weight) else 0.0


def _weight(ranges: Mapping[str, float], offer: str) -> float:
    """The weight of the most specific range that contains the offer (RFC 9110, 12.5.1)."""
    for media_range in (offer, offer.partition("/")[0] + "/*", "*/*"):
        if media_range in ranges:
            return ranges[media_range]
    return 0.0


def _list(words: Collection[str]) -> str:
    return " or ".join(sorted(words)) or "none"


Headers = Mapping[str, str]


def headers_of(scope: MutableMapping[str, Any]) -> Headers:
    """The header values by lower-case name; repeated headers are joined (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
