"""Query parameters and headers: valid values, invalid values, and the error messages."""

import pytest

from app.api import params
from app.core.errors import InvalidParameter, NotAcceptable

PNG, JSON = "image/png", "application/json"


def test_allowed_parameters_are_accepted():
    assert params.checked([("top_k", "3")], ["top_k"]) == {"top_k": "3"}
    assert params.checked([], ["top_k"]) == {}


@pytest.mark.parametrize("name", ["topk", "TOP_K", "", "render"])
def test_a_misspelt_parameter_is_refused_with_the_allowed_names(name):
    with pytest.raises(InvalidParameter, match="allowed: top_k, zoom"):
        params.checked([("zoom", "1"), (name, "3")], ["zoom", "top_k"])


def test_a_parameter_given_twice_is_refused_rather_than_guessed():
    with pytest.raises(InvalidParameter, match="top_k is given more than once"):
        params.checked([("top_k", "3"), ("top_k", "4")], ["top_k"])


def test_without_allowed_parameters_every_parameter_is_refused():
    with pytest.raises(InvalidParameter, match="allowed: none"):
        params.checked([("a", "b")], [])


def test_a_long_name_is_shortened_in_the_message():
    with pytest.raises(InvalidParameter) as refused:
        params.checked([("x" * 5000, "1")], ["top_k"])
    assert len(refused.value.detail) < 100


@pytest.mark.parametrize(("value", "number"), [("1", 1), ("10", 10), ("007", 7)])
def test_integers_in_the_range_are_accepted(value, number):
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
def test_other_texts_are_refused(value):
    with pytest.raises(InvalidParameter, match="top_k must be an integer from 1 to 10") as refused:
        params.integer("top_k", value, 1, 10)
    assert len(refused.value.detail) < 100


@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), ("1", 1), ("0.25", 0.25), (".5", 0.5), ("1.", 1), ("5e-05", 5e-5), ("2E-1", 0.2)],
)
def test_numbers_in_the_range_are_accepted(value, number):
    assert params.number("opacity", value, 0, 1) == number


@pytest.mark.parametrize(
    "value",
    ["-1", "1.01", "+1", "", ".", " 1", "1 ", "nan", "inf", "1e", "1_0", "٣", "0x1", "9" * 5000],
)
def test_other_texts_are_no_numbers(value):
    with pytest.raises(InvalidParameter, match="opacity must be a number from 0 to 1, not") as e:
        params.number("opacity", value, 0, 1)
    assert len(e.value.detail) < 100


def test_only_true_and_false_are_booleans():
    assert params.boolean("polygons", "true")
    assert not params.boolean("polygons", "false")
    for value in ("1", "True", "yes", ""):
        with pytest.raises(InvalidParameter, match="polygons must be false or true, not"):
            params.boolean("polygons", value)


def test_an_allowed_word_is_accepted():
    assert params.choice("render", "mask", ("mask", "color")) == "mask"


@pytest.mark.parametrize("value", ["", "Mask", "masks", "x" * 5000])
def test_another_word_is_refused_with_the_allowed_ones(value):
    with pytest.raises(InvalidParameter, match="render must be color or mask, not") as refused:
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
def test_a_client_can_only_shorten_the_timeout(headers, seconds):
    assert params.timeout_s(headers, 30.0) == seconds


@pytest.mark.parametrize("value", ["", "0", "-5", "1.5", "soon", "1000000000"])
def test_an_invalid_timeout_is_refused(value):
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
def test_the_offer_with_the_highest_weight_is_chosen(header, chosen):
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
def test_if_no_offer_is_allowed_the_message_lists_the_offers(header):
    with pytest.raises(NotAcceptable, match="application/json or image/png"):
        params.accept(header, PNG, JSON)
