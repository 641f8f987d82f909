"""API keys: valid keys, files of keys, and the check of a request."""

import pytest

from app.core import api_keys
from app.core.api_keys import Keyring, read_keys, validate_keys
from app.core.errors import Unauthorized

FIRST, SECOND = "correct-horse-battery", "staple-0123456789=="


def test_valid_keys_are_returned_without_duplicates():
    assert validate_keys(["x" * 16, FIRST, "x" * 16]) == ["x" * 16, FIRST]


@pytest.mark.parametrize(
    "bad",
    ["short", "x" * 15, "x" * 513, "with space in the key", "with,comma-in-the-key", "ü" * 20],
)
def test_an_invalid_key_is_named_by_its_number_and_not_shown(bad):
    with pytest.raises(ValueError, match="API key 2 of 2") as refused:
        validate_keys([FIRST, bad])
    assert bad not in str(refused.value)


def test_no_key_at_all_is_refused():
    with pytest.raises(ValueError, match="no API key"):
        validate_keys([])


def test_a_file_has_one_key_per_line_and_comments(tmp_path):
    file = tmp_path / "keys"
    file.write_bytes(f"# of the shop\r\n{FIRST}\r\n\r\n  {SECOND}  \n".encode())
    assert read_keys(file) == [FIRST, SECOND]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nothing yet\n"])
def test_a_file_without_a_key_is_refused_with_its_name(tmp_path, content):
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=str(file)):
        read_keys(file)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + FIRST.encode())],
        [(b"authorization", b"bearer  " + SECOND.encode())],
        [(b"x-api-key", SECOND.encode())],
        [(b"authorization", b"Basic dTpw"), (b"x-api-key", FIRST.encode())],
        [
            (b"x-api-key", b"a-key-of-another-service"),
            (b"authorization", b"Bearer " + FIRST.encode()),
        ],
    ],
)
def test_any_of_the_keys_is_accepted_in_either_header(headers):
    assert Keyring([FIRST, SECOND]).authenticate(headers) in (1, 2)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", FIRST.encode())],
        [(b"authorization", b"Basic " + FIRST.encode())],
        [(b"authorization", b"Bearer")],
        [(b"x-api-key", b"")],
        [(b"x-api-key", FIRST.encode()[:-1])],
        [(b"x-api-key", FIRST.encode() + b"x")],
        [(b"x-api-key", FIRST.upper().encode())],
        [(b"x-api-key", b"\xff\xfe")],
        [(b"cookie", FIRST.encode())],
        [(b"x-api-key", f"{FIRST},{SECOND}".encode())],
    ],
)
def test_other_requests_are_refused_with_a_challenge(headers):
    with pytest.raises(Unauthorized) as refused:
        Keyring([FIRST, SECOND]).authenticate(headers)
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [([], "send an API key"), ([(b"x-api-key", b"another")], "is not one of this service")],
)
def test_a_missing_key_and_a_wrong_key_have_different_reasons(headers, reason):
    with pytest.raises(Unauthorized, match=reason):
        Keyring([FIRST]).authenticate(headers)


@pytest.mark.parametrize("shown", [FIRST, SECOND, "neither-of-the-two"])
def test_every_key_is_compared_whichever_matches(monkeypatch, shown):
    compared = []

    def compare(first, second):
        compared.append(len(first) == len(second))
        return first == second

    monkeypatch.setattr(api_keys, "compare_digest", compare)
    try:
        Keyring([FIRST, SECOND]).authenticate([(b"x-api-key", shown.encode())])
    except Unauthorized:
        assert shown not in (FIRST, SECOND)
    assert compared == [True, True]


def test_a_request_is_known_by_the_number_of_its_key():
    keyring = Keyring([FIRST, SECOND])
    assert keyring.authenticate([(b"x-api-key", FIRST.encode())]) == 1
    assert keyring.authenticate([(b"x-api-key", SECOND.encode())]) == 2
