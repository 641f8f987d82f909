"""Owns how much structure an image file may have beside its pixels: segments, scans, chunks.

Knows nothing of pixels, nor of what decodes them. Each piece costs the decoder a step, and each
scan a walk over the whole image; a small file may have as many as fit into it.
"""

from collections.abc import Callable

from app.errors import InvalidImage

MOST_SEGMENTS = 10_000  # of a JPEG before its first scan; a camera writes some dozens
MOST_SCANS = 100  # an encoder writes ten for a progressive JPEG
MOST_CHUNKS = 65_536  # an encoder writes pixels in chunks of 8 KiB or more
SOI_BYTES, SIGNATURE_BYTES = 2, 8
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers that no length follows
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL = (0xC0, 0xC1)


def refuse_excess(kind: str, data: bytes) -> None:
    """Refuse a file whose structure would cost more than its pixels.

    Args:
        kind: Pillow's name of its format.
        data: the file; where it ends too early, the decoder will say so.

    Raises:
        InvalidImage: too many segments, scans or chunks.
    """
    check = CHECKS.get(kind)
    if check is not None:
        check(data)


def _jpeg(data: bytes) -> None:
    if _several_scans(data) and data.count(b"\xff\xda") > MOST_SCANS:
        raise InvalidImage(f"the JPEG has more than {MOST_SCANS} scans")


def _several_scans(data: bytes) -> bool:
    """Whether the first scan of a JPEG is one of several; walks over what stands before it."""
    at, components, progressive = SOI_BYTES, 0, False
    for _ in range(MOST_SEGMENTS):
        head = data[at : at + 10]
        if len(head) < 10:
            return False
        marker = head[1]
        if head[0] != 0xFF or marker == 0xFF:  # something else than a marker, or a fill byte
            at += 1
        elif marker in BARE:
            at += 2
        elif marker in (START_OF_SCAN, END_OF_IMAGE):
            return progressive or head[4] < components
        else:
            if marker in FRAMES:
                components, progressive = head[9], marker not in SEQUENTIAL
            at += 2 + max(2, int.from_bytes(head[2:4]))
    raise InvalidImage(f"the JPEG has more than {MOST_SEGMENTS} segments")


def _png(data: bytes) -> None:
    at = SIGNATURE_BYTES
    for _ in range(MOST_CHUNKS):
        if at >= len(data):
            return
        at += 12 + int.from_bytes(data[at : at + 4])
    raise InvalidImage(f"the PNG has more than {MOST_CHUNKS} chunks")


CHECKS: dict[str, Callable[[bytes], None]] = {"JPEG": _jpeg, "PNG": _png}
