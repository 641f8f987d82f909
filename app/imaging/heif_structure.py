"""Limits on AVIF and HEIC files: the sizes that their decoders allocate, tiles, items and frames.

A file of a few kilobytes can claim a small size and contain a large one, or a grid that decodes one
tile many times. Only still images are decoded: of a sequence, its primary image.
"""

import struct
from collections import Counter

from app.core.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from app.imaging.av1_structure import av1_size
from app.imaging.heif_boxes import (
    Items,
    Properties,
    Span,
    boxes,
    meta_boxes,
    primary_item,
    read_items,
    read_properties,
)
from app.imaging.hevc_structure import hevc_size
from app.imaging.tiff_structure import check_exif

MAX_TILES = 1_000  # of the image and its alpha
MAX_MOVIE_BYTES = 2**20  # of the table of a sequence, which is read but not used
MAX_OVERLAP = 2  # bytes of all items, for each byte of the file
MAX_PROPERTY_BYTES = 2**20  # of all images, and as many as MAX_OVERLAP allows
MAX_TRANSFORMS = 4  # of an item: each is a pass over its pixels
# decoded pixels for each pixel of the image: alpha, and tiles that extend beyond the image
MAX_CODED, CODED_MARGIN = 4, 2**18
MAX_PADDING = 64  # pixels: codecs extend a side to a multiple of their block
LARGER = "the image is larger than its header says"
SINGLE = frozenset({b"ispe", b"av1C", b"hvcC"})  # of an item; decoders differ in which they use
TRANSFORMS = frozenset({b"irot", b"imir", b"clap"})
CODED = {"AVIF": frozenset({b"av01"}), "HEIC": frozenset({b"hvc1", b"hev1"})}


def heif_size(data: bytes) -> tuple[int, int]:
    """Width and height that the file claims for its image, in pixels.

    Raises:
        InvalidImage: it claims none, or its boxes cannot be read.
        struct.error, IndexError: the file is truncated.
    """
    meta = meta_boxes(data)
    return _claimed(data, primary_item(data, meta), read_properties(data, meta))


def _claimed(data: bytes, item: int, properties: Properties) -> tuple[int, int]:
    for kind, (start, _) in properties.of(item):
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", data, start + 4)
            return width, height
    raise InvalidImage("the file does not say the size of its image")


def check_heif(kind: str, data: bytes, max_pixels: int) -> None:
    """Refuse an AVIF or HEIC that would take more memory or time than the size that it claims.

    Args:
        kind: `AVIF` or `HEIC`.
        data: the file.
        max_pixels: largest size of an image.

    Raises:
        InvalidImage: too many boxes, items, tiles, frames or transforms; items that share their
            bytes; data larger than the claimed size, or without a size; too many EXIF tags.
        UnsupportedImageFormat: the image is neither coded as usual nor a grid.
        ImageTooLarge: the claimed size is larger than `max_pixels`.
    """
    try:
        _check_sequence(data)
        meta = meta_boxes(data)
        properties, items = read_properties(data, meta), read_items(data, meta)
        primary = primary_item(data, meta)
        width, height = _claimed(data, primary, properties)
    except (struct.error, IndexError) as error:
        raise InvalidImage(f"the {kind} is truncated") from error
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has more than {max_pixels:,} pixels",
            limits={"max_image_pixels": max_pixels},
        )
    _check_items(data, items)
    _check_properties(data, properties)
    container = Container(kind, data, items, properties)
    if container.pixels_of(primary) > MAX_CODED * width * height + CODED_MARGIN:
        raise InvalidImage(LARGER)


def _check_sequence(data: bytes) -> None:
    for kind, (start, end) in boxes(data, 0, len(data)):
        if kind == b"moov" and end - start > MAX_MOVIE_BYTES:
            raise InvalidImage("the sequence has too many frames; send one of them")


def _check_items(data: bytes, items: Items) -> None:
    """Limit what decoders read of all items, also of those that they do not decode."""
    sizes = {
        item: sum(end - start for start, end in spans) for item, spans in items.extents.items()
    }
    read = sum(sizes.values())
    described: Counter[int] = Counter()
    for kind, item, images in items.references:
        if kind == b"cdsc":  # metadata is copied for each image that it describes
            described[item] += len(images)
    read += sum(sizes.get(item, 0) * max(0, count - 1) for item, count in described.items())
    if read > MAX_OVERLAP * len(data):
        raise InvalidImage(f"the items of the file have more than {MAX_OVERLAP} times its bytes")
    for item, kind in items.kinds.items():
        if kind == b"Exif":
            block = _contents(data, items.extents.get(item, []))
            check_exif(block[4 + int.from_bytes(block[:4]) :])


def _check_properties(data: bytes, properties: Properties) -> None:
    listed = sum(end - start for item in properties.used for _, (start, end) in properties.of(item))
    if listed > MAX_OVERLAP * len(data) + MAX_PROPERTY_BYTES:  # copied for each image
        raise InvalidImage("the properties of the file's images have too many bytes")
    for item in properties.used:
        kinds = [kind for kind, _ in properties.of(item)]
        if sum(kind in TRANSFORMS for kind in kinds) > MAX_TRANSFORMS:
            raise InvalidImage(f"an image is transformed more than {MAX_TRANSFORMS} times")
        if any(kinds.count(kind) > 1 for kind in SINGLE):
            raise InvalidImage("an image has two sizes, or two configurations of its decoder")


def _contents(data: bytes, spans: list[Span]) -> bytes:
    return b"".join(data[start:end] for start, end in spans)


class Container:
    """The images of a file, to add up the pixels that are decoded.

    Args:
        kind: `AVIF` or `HEIC`.
        data: the file.
        items: of the file.
        properties: of the items.
    """

    def __init__(self, kind: str, data: bytes, items: Items, properties: Properties) -> None:
        self._kind = kind
        self._data = data
        self._items = items
        self._properties = properties
        self._sizes: dict[int, int] = {}
        self._tiles: dict[int, list[int]] = {}
        self._alphas: dict[int, list[int]] = {}
        for kind_, item, images in items.references:
            if kind_ == b"dimg":
                if item in self._tiles:
                    raise InvalidImage("the file lists the tiles of an image twice")
                self._tiles[item] = images
            elif kind_ == b"auxl":
                for image in images:
                    self._alphas.setdefault(image, []).append(item)

    def pixels_of(self, primary: int) -> int:
        """The pixels that are decoded for the image, with its tiles and alpha."""
        images = [primary, *self._alphas.get(primary, ())]
        tiles = [tile for image in images for tile in self._parts(image)]
        tiles += [alpha for tile in tiles for alpha in self._alphas.get(tile, ())]
        if len(tiles) > MAX_TILES:
            raise InvalidImage(f"the image has more than {MAX_TILES} tiles")
        return sum(self._coded(tile) for tile in tiles)

    def _parts(self, image: int) -> list[int]:
        """The tiles of a grid; any other image itself."""
        if self._items.kinds.get(image) != b"grid":
            return [image]
        grid = _contents(self._data, self._items.extents.get(image, []))
        size = struct.Struct(">II" if grid[1:2] and grid[1] & 1 else ">HH")
        if len(grid) < 4 + size.size:
            raise InvalidImage("the grid of the image is truncated")
        if size.unpack_from(grid, 4) != _claimed(self._data, image, self._properties):
            raise InvalidImage("the grid has another size than its header says")
        tiles = self._tiles.get(image, [])
        if len(set(tiles)) < len(tiles):  # its bytes would be decoded again and again
            raise InvalidImage("the grid of the image uses a tile twice")
        return tiles

    def _coded(self, image: int) -> int:
        """The pixels of a coded image, by its own data."""
        if image not in self._sizes:
            kind = self._items.kinds.get(image, b"")
            if kind not in CODED[self._kind]:
                raise UnsupportedImageFormat(
                    f"the {self._kind} has an image of type {kind.decode(errors='replace')!r}, "
                    "which is not accepted: convert it to JPEG"
                )
            width, height = self._size(image)
            claimed = _claimed(self._data, image, self._properties)
            if width > claimed[0] + MAX_PADDING or height > claimed[1] + MAX_PADDING:
                raise InvalidImage(LARGER)
            if width < claimed[0] or height < claimed[1]:  # libavif would enlarge it
                raise InvalidImage("the image is smaller than its header says")
            self._sizes[image] = width * height
        return self._sizes[image]

    def _size(self, image: int) -> tuple[int, int]:
        contents = _contents(self._data, self._items.extents.get(image, []))
        try:
            if self._kind == "AVIF":
                return av1_size(contents)
            for kind, (start, end) in self._properties.of(image):
                if kind == b"hvcC":
                    return hevc_size(self._data[start:end], contents)
        except (struct.error, IndexError) as error:
            raise InvalidImage(f"the data of the {self._kind} is truncated") from error
        raise InvalidImage("the HEIC has no configuration of its decoder")
