"""The headers of a request as a mapping."""

from app.api.params import headers_of


def test_a_header_is_found_by_its_name():
    headers = headers_of({"headers": [(b"content-type", b"image/png"), (b"accept", b"*/*")]})
    assert headers == {"content-type": "image/png", "accept": "*/*"}


def test_repeated_headers_are_joined():
    lines = [(b"accept", b"image/png"), (b"host", b"here"), (b"accept", b"application/json")]
    assert headers_of({"headers": lines})["accept"] == "image/png, application/json"


def test_every_byte_is_allowed_in_a_value():
    assert headers_of({"headers": [(b"x", bytes(range(256)))]})["x"] == bytes(range(256)).decode(
        "latin-1"
    )
