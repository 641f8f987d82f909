"""The errors: every subclass of ServiceError against the contract."""

import json
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from app.api.schemas import Problem
from app.core import errors
from app.core.errors import ServiceError

CONTRACT = {
    "empty_body": 400,
    "malformed_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "model_not_loaded": 404,
    "method_not_allowed": 405,
    "upload_too_slow": 408,
    "headers_too_large": 431,
    "not_acceptable": 406,
    "payload_too_large": 413,
    "image_too_large": 413,
    "unsupported_image_format": 415,
    "invalid_image": 422,
    "invalid_parameter": 422,
    "overloaded": 503,
    "not_ready": 503,
    "draining": 503,
    "deadline_exceeded": 504,
    "internal": 500,
}
NEVER_SENT = {"client_gone": 499}
RETRYABLE = {"upload_too_slow", "overloaded", "not_ready", "draining", "deadline_exceeded"}


def every(kind: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    for one in kind.__subclasses__():
        yield one
        yield from every(one)


KINDS = list(every())


def test_the_errors_are_those_of_the_contract():
    assert {kind.code: kind.status for kind in KINDS} == CONTRACT | NEVER_SENT


def test_codes_and_titles_are_unique():
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    assert len({kind.title for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_documented(kind):
    assert kind.__doc__
    assert kind.__doc__ != kind.__base__.__doc__
    assert kind.title[0].isupper()
    assert kind.code.replace("_", " ") == kind.title.lower().removesuffix(" error")
    assert kind.__name__ in errors.__doc__
    assert str(kind.status) in errors.__doc__


@pytest.mark.parametrize("code", CONTRACT)
def test_every_status_has_a_phrase(code):
    assert HTTPStatus(CONTRACT[code]).phrase


@pytest.mark.parametrize("kind", KINDS)
def test_only_temporary_errors_are_retryable(kind):
    assert kind.retryable == (kind.code in RETRYABLE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_has_the_members_of_the_schema(kind):
    problem = kind("what went wrong").problem("id-1")
    assert problem == {
        "type": f"urn:patchserve:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": "what went wrong",
        "instance": "urn:patchserve:request:id-1",
        "code": kind.code,
        "request_id": "id-1",
        "retryable": kind.retryable,
    }
    Problem.model_validate(problem, extra="forbid")


def test_a_problem_has_the_retry_time_and_the_exceeded_limit():
    error = errors.Overloaded("full", retry_after_s=0.2504, limits={"max_queue_size": 3})
    problem = error.problem("id-1")
    assert problem["retry_after_ms"] == 250
    assert problem["limits"] == {"max_queue_size": 3}
    Problem.model_validate_json(json.dumps(problem), extra="forbid")


def test_an_error_has_its_detail_and_a_copy_of_the_headers():
    given = {"Allow": "GET"}
    error = errors.MethodNotAllowed("not so", headers=given)
    given["Allow"] = "nothing"
    assert str(error) == error.detail == "not so"
    assert error.headers == {"Allow": "GET"}
    assert errors.NotFound("gone").headers == {}
