"""Hooks of schemathesis: every body is an image that the service must accept."""

from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.hostile.case import drawn
from tests.hostile.contract.drawing import draw

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
LABELS = 6  # of the bundled classifier; the document cannot contain the number before it is loaded

draw(st.sampled_from([drawn(kind, 24, 20) for kind in KINDS]))


@schemathesis.hook
def before_load_schema(context: object, raw_schema: dict[str, Any]) -> None:
    """Limit `top_k` to the number of labels, and leave each parameter one place.

    The query and the body must not have the same parameter.
    """
    for path in ("/classify", "/explain", "/segment"):
        post = raw_schema["paths"][path]["post"]
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
