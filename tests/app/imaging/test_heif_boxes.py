"""Boxes and items of AVIF and HEIC files, in every version."""

import struct

import pytest

from app.core.errors import InvalidImage
from app.imaging.heif_boxes import (
    MAX_BOXES,
    boxes,
    meta_boxes,
    primary_item,
    read_items,
    read_properties,
)
from tests.hostile.heif import box, full, ispe


def file_of(*described: bytes) -> bytes:
    return box(b"ftyp", b"avif") + full(b"meta", 0, *described)


def test_a_box_may_have_a_long_size_or_extend_to_the_end():
    long = struct.pack(">I4sQ", 1, b"long", 20) + b"abcd"
    last = struct.pack(">I4s", 0, b"last") + b"efghij"
    data = long + box(b"free") + last
    assert [(kind, data[start:end]) for kind, (start, end) in boxes(data, 0, len(data))] == [
        (b"long", b"abcd"), (b"free", b""), (b"last", b"efghij"),
    ]  # fmt: skip


def test_a_box_that_ends_before_its_start_is_refused():
    with pytest.raises(InvalidImage, match="invalid size"):
        list(boxes(struct.pack(">I4s", 7, b"free"), 0, 8))


def test_a_box_has_a_limited_number_of_boxes():
    data = box(b"free") * MAX_BOXES
    assert len(list(boxes(data, 0, len(data)))) == MAX_BOXES
    data += box(b"free")
    assert len(list(boxes(data, 0, len(data), MAX_BOXES + 1))) == MAX_BOXES + 1
    with pytest.raises(InvalidImage, match="boxes in a row"):
        list(boxes(data, 0, len(data)))


def test_numbers_of_items_may_be_wide():
    info = full(b"infe", 3, struct.pack(">IH4s", 70_000, 0, b"av01"))
    location = struct.pack(">IHHHH", 70_000, 1, 0, 2, 0)[:-2]
    extents = struct.pack(">IQQIQQ", 0, 1, 2, 0, 4, 0)  # with an index; a length of 0 is the rest
    properties = box(b"iprp", box(b"ipco", ispe(3, 4), box(b"irot", b"\1")), full(
        b"ipma", 1, struct.pack(">IIBHH", 1, 70_000, 2, 0x8001, 9), flags=1
    ))  # fmt: skip
    data = file_of(
        full(b"pitm", 1, struct.pack(">I", 70_000)),
        full(b"iinf", 1, struct.pack(">I", 1), info),
        full(b"iloc", 2, b"\x88\x04", struct.pack(">I", 1), location, extents),
        full(b"iref", 1, box(b"auxl", struct.pack(">IHII", 5, 2, 70_000, 6))),
        properties,
        box(b"idat", b"abcdefgh"),
    )
    meta = meta_boxes(data)
    items = read_items(data, meta)
    assert primary_item(data, meta) == 70_000
    assert items.kinds == {70_000: b"av01"}
    assert items.references == [(b"auxl", 5, [70_000, 6])]
    assert [data[start:end] for start, end in items.extents[70_000]] == [b"bc", b"efgh"]
    found = list(read_properties(data, meta).of(70_000))  # the ninth property does not exist
    assert [kind for kind, _ in found] == [b"ispe"]


@pytest.mark.parametrize(
    "described",
    [
        [],
        [full(b"pitm", 0, b"\0\1")],
        [full(b"pitm", 0, b"\0\1")] * 2,
    ],
    ids=["nothing", "no properties", "two primary items"],
)
def test_a_file_that_names_no_image_is_refused(described):
    with pytest.raises(InvalidImage):
        meta_boxes(file_of(*described))


@pytest.mark.parametrize(
    ("count", "twice"), [(1001, False), (2, True)], ids=["too many", "one twice"]
)
def test_too_many_items_or_one_twice_are_refused(count, twice):
    listed = b"".join(
        struct.pack(">HBB", 1 if twice else number, 1, 1) for number in range(1, count + 1)
    )
    properties = full(b"ipma", 0, struct.pack(">I", count), listed)
    data = file_of(full(b"pitm", 0, b"\0\1"), box(b"iprp", box(b"ipco", ispe(3, 4)), properties))
    with pytest.raises(InvalidImage):
        read_properties(data, meta_boxes(data))


@pytest.mark.parametrize("method", [2, 5])
def test_an_item_that_is_made_of_items_is_refused(method):
    location = full(b"iloc", 1, b"\x44\0", struct.pack(">HHHHH", 1, 1, method, 0, 0))
    data = file_of(
        full(b"pitm", 0, b"\0\1"), full(b"iinf", 0, b"\0\0"), location, box(b"iprp", box(b"ipco"))
    )
    with pytest.raises(InvalidImage, match="an unusual one"):
        read_items(data, meta_boxes(data))
