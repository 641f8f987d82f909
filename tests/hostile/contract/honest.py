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
    """Limit `top_k` to the number of labels."""
    for path in ("/classify", "/explain"):
        for parameter in raw_schema["paths"][path]["post"]["parameters"]:
            if parameter["name"] == "top_k":
                parameter["schema"]["maximum"] = LABELS
