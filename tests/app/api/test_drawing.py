"""The parameters of POST /segment: what they ask for, and which do not go together."""

import pytest

from app.api.drawing import Drawing, drawing
from app.core.errors import InvalidParameter
from app.imaging.overlay import Overlay

LABELS = ("background", "cat", "dog")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Drawing("mask", Overlay(0.5, 0), None)),
        ({"render": "overlay"}, Drawing("overlay", Overlay(0.5, 0), None)),
        (
            {"render": "overlay", "opacity": "0.2", "background": "none"},
            Drawing("overlay", Overlay(0.2, None), None),
        ),
        ({"render": "overlay", "background": "dog"}, Drawing("overlay", Overlay(0.5, 2), None)),
        ({"polygons": "false"}, Drawing("mask", Overlay(0.5, 0), None)),
        ({"polygons": "true"}, Drawing("mask", Overlay(0.5, 0), 1.0)),
        ({"polygons": "true", "tolerance": "0"}, Drawing("mask", Overlay(0.5, 0), 0.0)),
        ({"polygons": "true", "tolerance": "2.5"}, Drawing("mask", Overlay(0.5, 0), 2.5)),
    ],
)
def test_parameters_say_how_the_mask_is_drawn(given, expected):
    assert drawing(given, LABELS, as_json=True) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"render": "sketch"}, "render must be"),
        ({"opacity": "1"}, "opacity needs render=overlay; render is mask"),
        ({"render": "color", "background": "cat"}, "background needs render=overlay"),
        ({"render": "overlay", "opacity": "50"}, "opacity must be a number from 0 to 1"),
        ({"render": "overlay", "background": "3"}, "index from 0 to 2, not '3'"),
        ({"tolerance": "1"}, "tolerance needs polygons=true"),
        ({"polygons": "false", "tolerance": "1"}, "tolerance needs polygons=true"),
        ({"polygons": "yes"}, "polygons must be false or true"),
        ({"polygons": "true", "tolerance": "-1"}, "tolerance must be a number from 0 to 100"),
    ],
)
def test_a_wrong_or_useless_parameter_is_refused(given, message):
    with pytest.raises(InvalidParameter, match=message):
        drawing(given, LABELS, as_json=True)


def test_polygons_need_json():
    with pytest.raises(InvalidParameter, match="send Accept: application/json"):
        drawing({"polygons": "true"}, LABELS, as_json=False)
    assert drawing({"polygons": "false"}, LABELS, as_json=False).tolerance is None
