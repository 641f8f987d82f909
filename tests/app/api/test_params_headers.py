"""The headers of a request, by name."""

from app.api.params import headers_of


def test_a_header_is_found_by_its_name():
    headers = headers_of({"headers": [(b"content-type", b"image/png"), (b"accept", b"*/*")]})
    assert headers == {"content-type": "image/png", "accept": "*/*"}


def test_several_lines_of_a_name_are_one_list():
    lines = [(b"accept", b"image/png"), (b"host", b"here"), (b"accept", b"application/json")]
    assert headers_of({"headers": lines})["accept"] == "image/png, application/json"


def test_any_byte_may_come():
    assert headers_of({"headers": [(b"x", bytes(range(256)))]})["x"] == bytes(range(256)).decode(
        "latin-1"
    )
