"""The parameters of POST /segment: how its answer draws the mask."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.api import params
from app.core.errors import InvalidParameter
from app.imaging.masks import RENDERS
from app.imaging.overlay import AUTO, OPACITY, Overlay, background_class

STYLES = (*RENDERS, "confidence")
PARAMETERS = ("render", "opacity", "background", "polygons", "tolerance")
TOLERANCE, MAX_TOLERANCE = 1.0, 100.0  # of polygons, in pixels


class Drawing(NamedTuple):
    """How a mask is drawn.

    Attributes:
        style: one of `STYLES`.
        overlay: how the overlay is drawn, if that is the style.
        tolerance: of the polygons in pixels; None: no polygons.
    """

    style: str
    overlay: Overlay
    tolerance: float | None


def drawing(given: Mapping[str, str], labels: Sequence[str], *, as_json: bool) -> Drawing:
    """What the parameters of a request ask for.

    Args:
        given: the parameters.
        labels: of the model.
        as_json: whether the response is JSON; only this has polygons.

    Raises:
        InvalidParameter: a value is wrong, or a parameter would have no effect.
    """
    style = params.choice("render", given.get("render", "mask"), STYLES)
    for name in ("opacity", "background"):
        if name in given and style != "overlay":
            raise InvalidParameter(f"{name} needs render=overlay; render is {style}")
    opacity = params.number("opacity", given.get("opacity", str(OPACITY)), 0, 1)
    try:
        background = background_class(given.get("background", AUTO), labels)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
    return Drawing(style, Overlay(opacity, background), _tolerance(given, as_json=as_json))


def _tolerance(given: Mapping[str, str], *, as_json: bool) -> float | None:
    """The tolerance of the polygons in pixels; None without polygons."""
    if not params.boolean("polygons", given.get("polygons", "false")):
        if "tolerance" in given:
            raise InvalidParameter("tolerance needs polygons=true")
        return None
    if not as_json:
        raise InvalidParameter("polygons are only in JSON; send Accept: application/json")
    return params.number("tolerance", given.get("tolerance", str(TOLERANCE)), 0, MAX_TOLERANCE)
