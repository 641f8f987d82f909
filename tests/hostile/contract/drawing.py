"""Bodies for schemathesis: images in every form that a body can have."""

import base64

import schemathesis
from hypothesis import strategies as st
from schemathesis.transport.serialization import Binary


def draw(images: st.SearchStrategy[bytes]) -> None:
    """Use these images wherever the document describes a file, or a file in base64."""
    for media_type in ("application/octet-stream", "image/*"):
        schemathesis.openapi.media_type(media_type, images)
    schemathesis.openapi.format("binary", images.map(Binary))
    schemathesis.openapi.format("byte", images.map(lambda data: base64.b64encode(data).decode()))
