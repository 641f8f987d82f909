"""Query parameters and headers: what is taken, what is refused, and in which words."""

import pytest

from app.api import params
from app.core.errors import InvalidParameter, NotAcceptable

PNG, JSON = "image/png", "application/json"


def test_known_parameters_pass():
    assert params.known([("top_k", "3")], ["top_k"]) == {"top_k": "3"}
    assert params.known([], ["top_k"]) == {}


@pytest.mark.parametrize("name", ["topk", "TOP_K", "", "render"])
def test_a_misspelt_parameter_is_refused_with_the_right_names(name):
    with pytest.raises(InvalidParameter, match="there is top_k or zoom"):
        params.known([("zoom", "1"), (name, "3")], ["zoom", "top_k"])


def test_a_parameter_given_twice_is_refused_rather_than_guessed():
    with pytest.raises(InvalidParameter, match="top_k is given more than once"):
        params.known([("top_k", "3"), ("top_k", "4")], ["top_k"])


def test_where_there_are_no_parameters_none_is_taken():
    with pytest.raises(InvalidParameter, match="there is none"):
        params.known([("a", "b")], [])


def test_a_name_is_not_quoted_at_length():
    with pytest.raises(InvalidParameter) as refused:
        params.known([("x" * 5000, "1")], ["top_k"])
    assert len(refused.value.detail) < 100


@pytest.mark.parametrize(("value", "number"), [("1", 1), ("10", 10), ("007", 7)])
def test_whole_numbers_in_their_range(value, number):
    assert params.integer("top_k", value, 1, 10) == number


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "11",
        "-1",
        "+1",
        "1.0",
        "1e1",
        "",
        " 1",
        "1 ",
        "one",
        "٣",
        "²",
        "0x1",
        "1_0",
        "9" * 5000,
    ],
)
def test_anything_else_is_no_whole_number(value):
    with pytest.raises(InvalidParameter, match="top_k is a whole number from 1 to 10") as refused:
        params.integer("top_k", value, 1, 10)
    assert len(refused.value.detail) < 100


def test_one_of_some_words():
    assert params.choice("render", "mask", ("mask", "color")) == "mask"


@pytest.mark.parametrize("value", ["", "Mask", "masks", "x" * 5000])
def test_any_other_word_is_refused_with_the_right_ones(value):
    with pytest.raises(InvalidParameter, match="render is color or mask, not") as refused:
        params.choice("render", value, ("mask", "color"))
    assert len(refused.value.detail) < 100


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 30),
        ({"x-request-timeout-ms": "1"}, 0.001),
        ({"x-request-timeout-ms": "2500"}, 2.5),
        ({"x-request-timeout-ms": "30001"}, 30),
        ({"x-request-timeout-ms": "999999999"}, 30),
    ],
)
def test_a_caller_may_ask_for_less_time_but_not_for_more(headers, seconds):
    assert params.timeout_s(headers, 30.0) == seconds


@pytest.mark.parametrize("value", ["", "0", "-5", "1.5", "soon", "1000000000"])
def test_a_timeout_that_is_no_number_of_milliseconds_is_refused(value):
    with pytest.raises(InvalidParameter, match="X-Request-Timeout-Ms"):
        params.timeout_s({"x-request-timeout-ms": value}, 30.0)


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, PNG),
        ("", PNG),
        (" , ", PNG),
        ("*/*", PNG),
        ("image/png", PNG),
        ("IMAGE/PNG", PNG),
        ("image/*", PNG),
        ("application/json", JSON),
        ("application/*", JSON),
        ("application/json, image/png", PNG),
        ("image/png;q=0.5, application/json", JSON),
        ("image/png; q=0.5 , application/json ; q=0.4", PNG),
        ("image/png;q=0.001, application/json;q=0.002", JSON),
        ("image/png;level=1;q=0.2, application/json;Q=0.3", JSON),
        ("image/*;q=0.9, image/png;q=0.1, application/json;q=0.5", JSON),
        ("*/*;q=0.1, application/json;q=0.2", JSON),
        ("*/*, image/*;q=0", JSON),
        ("*/*, image/png;q=0", JSON),
        ("image/*, image/png;q=0, application/json;q=0.1", JSON),
        ("image/png;q=1.000, application/json;q=0.999", PNG),
        ("text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8", PNG),
        ("image/png;q=nonsense, application/json;q=0.1", JSON),
        ("image/png;q=nan, application/json;q=0.1", JSON),
        ("image/png;q=inf, application/json;q=0.1", JSON),
        ("image/png;q=-1, application/json;q=0.1", JSON),
        ("image/png;q=2, application/json;q=0.1", JSON),
        ("image/png;q=, application/json;q=0.1", JSON),
    ],
)
def test_the_answer_is_what_the_caller_likes_best(header, chosen):
    assert params.accept(header, PNG, JSON) == chosen


@pytest.mark.parametrize(
    "header",
    [
        "text/html",
        "image/jpeg",
        "image/png;q=0",
        "*/*;q=0",
        "*/*;q=0.0, text/html",
        "*/*, application/*;q=0, image/*;q=0",
        "image",
        "*",
        "*/png",
        "image/png;q=nan",
        ";;;",
        "image/png/png",
    ],
)
def test_where_nothing_fits_the_caller_is_told_what_there_is(header):
    with pytest.raises(NotAcceptable, match="application/json or image/png"):
        params.accept(header, PNG, JSON)
