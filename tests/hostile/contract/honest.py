"""Hooks of schemathesis: every body is an image that the service has to take."""

from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.hostile.case import drawn
from tests.hostile.contract.drawing import draw

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
LABELS = 6  # of the bundled classifier, which the document cannot know before it is loaded

draw(st.sampled_from([drawn(kind, 24, 20) for kind in KINDS]))


@schemathesis.hook
def before_load_schema(context: object, raw_schema: dict[str, Any]) -> None:
    """Say how many labels there are to ask for."""
    for path in ("/classify", "/explain"):
        for parameter in raw_schema["paths"][path]["post"]["parameters"]:
            if parameter["name"] == "top_k":
                parameter["schema"]["maximum"] = LABELS
