"""Draws bodies for schemathesis: images in every form that a body may have."""

import base64

import schemathesis
from hypothesis import strategies as st
from schemathesis.transport.serialization import Binary


def draw(images: st.SearchStrategy[bytes]) -> None:
    """Let every body that is described as a file, or as one in base64, be one of these."""
    for media_type in ("application/octet-stream", "image/*"):
        schemathesis.openapi.media_type(media_type, images)
    schemathesis.openapi.format("binary", images.map(Binary))
    schemathesis.openapi.format("byte", images.map(lambda data: base64.b64encode(data).decode()))
