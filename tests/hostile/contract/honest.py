"""Hooks of schemathesis: every body is an image that the service must accept."""

from collections.abc import Collection
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.hostile.case import drawn
from tests.hostile.contract.drawing import draw

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
DEPENDENT = ("threshold", "opacity", "background", "polygons", "tolerance")
LABELS = 6  # of the bundled classifier; the document cannot contain the number before it is loaded

draw(st.sampled_from([drawn(kind, 24, 20) for kind in KINDS]))


@schemathesis.hook
def before_load_schema(context: object, raw_schema: dict[str, Any]) -> None:
    """Limit `top_k` to the number of labels, and leave each parameter one place.

    The query and the body must not have the same parameter. Parameters that are valid only beside
    some values of others, which the document cannot say, are left out.
    """
    for path in ("/classify", "/explain", "/segment"):
        post = raw_schema["paths"][path]["post"]
        leave_out(post, DEPENDENT)
        query = [each for each in post["parameters"] if each["in"] == "query"]
        for parameter in query:
            if parameter["name"] == "top_k":
                parameter["schema"]["maximum"] = LABELS
            for content in post["requestBody"]["content"].values():
                properties = content["schema"].get("properties", {})
                if path == "/classify":
                    properties.pop(parameter["name"], None)
                elif parameter["name"] in properties:
                    properties[parameter["name"]] = parameter["schema"]
            if path != "/classify":
                post["parameters"].remove(parameter)


def leave_out(post: dict[str, Any], names: Collection[str]) -> None:
    """Remove parameters from an operation, in the query and in the body."""
    post["parameters"] = [each for each in post["parameters"] if each["name"] not in names]
    for content in post["requestBody"]["content"].values():
        for name in names:
            content["schema"].get("properties", {}).pop(name, None)
