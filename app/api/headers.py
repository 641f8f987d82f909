"""Owns the headers of a request as a mapping, made once: to search the list costs more each time.

Knows nothing of what they mean.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

Headers = Mapping[str, str]


def headers_of(scope: MutableMapping[str, Any]) -> Headers:
    """The values by lower-case name; several lines of a name mean their list (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
