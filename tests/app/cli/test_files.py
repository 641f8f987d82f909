"""Finding images by files, folders and globs, and naming their results."""

import os
from pathlib import Path

import pytest

from app.cli.files import ImageFile, find_images, targets
from app.core.types import IMAGE_FORMATS, IMAGE_SUFFIXES


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder `photos` with images and other files, in the current folder."""
    monkeypatch.chdir(tmp_path)
    names = ["b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "c/a.png", "c/d/e.webp", ".cache/f.jpg"]
    for name in names:
        file = Path("photos", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Path("photos")


def found(*arguments: str, out: Path | None = None) -> list[str]:
    return [str(image.path) for image in find_images(arguments, out)]


def test_a_folder_stands_for_its_visible_images_at_any_depth_sorted_by_path(photos):
    assert find_images(["photos"]) == [
        ImageFile(photos / relative, Path(relative))
        for relative in ("a.PNG", "b.jpg", "c/a.png", "c/d/e.webp")
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", ["photos/b.jpg"]),
        ("photos/**/*.png", ["photos/c/a.png"]),
        ("photos/**", ["photos/a.PNG", "photos/b.jpg", "photos/c/a.png", "photos/c/d/e.webp"]),
        ("photos/c*", ["photos/c/a.png", "photos/c/d/e.webp"]),
        ("photos/[ab].*", ["photos/a.PNG", "photos/b.jpg"]),
    ],
)
def test_a_glob_stands_for_the_images_and_folders_that_match_it(photos, pattern, expected):
    assert found(pattern) == expected


@pytest.mark.parametrize("argument", ["photos", "photos/*"])
def test_only_regular_files_count(photos, argument):
    before = found(argument)
    os.mkfifo(photos / "pipe.png")
    (photos / "zero.png").symlink_to("/dev/zero")
    (photos / "circle.png").symlink_to("circle.png")
    assert found(argument) == before


def test_paths_below_a_glob_start_at_its_first_wildcard(photos):
    assert [image.relative for image in find_images(["photos/c/**/*.webp"])] == [Path("d/e.webp")]


def test_arguments_keep_their_order_and_each_file_counts_once(photos):
    assert found("photos/c", "photos/b.jpg", "photos/*") == [
        "photos/c/a.png",
        "photos/c/d/e.webp",
        "photos/b.jpg",
        "photos/a.PNG",
    ]


def test_a_file_that_is_named_itself_counts_whatever_its_name(photos):
    Path("photos/[1].jpg").touch()
    names = ["photos/notes.txt", "photos/.hidden.jpg", "photos/[1].jpg", "missing.png"]
    assert found(*names) == names


@pytest.mark.parametrize(
    ("argument", "message"),
    [("empty", "empty: no image in this folder"), ("photos/*.bmp", "photos/*.bmp: no image match")],
)
def test_an_argument_that_matches_no_image_is_refused(photos, argument, message):
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        find_images(["photos", argument])


@pytest.mark.parametrize("argument", ["photos", "photos/**"])
def test_results_below_a_folder_are_not_images_of_it(photos, argument):
    assert found(argument, out=photos / "c") == ["photos/a.PNG", "photos/b.jpg"]
    assert found("photos/c", out=photos / "c") == ["photos/c/a.png", "photos/c/d/e.webp"]


def test_every_accepted_format_has_a_suffix():
    assert {f".{name}" for name in IMAGE_FORMATS} <= IMAGE_SUFFIXES


def test_results_have_the_subfolders_of_their_images(photos):
    assert targets(find_images(["photos", "photos/b.jpg"]), Path("out"), ".mask.png") == {
        photos / "a.PNG": Path("out/a.mask.png"),
        photos / "b.jpg": Path("out/b.mask.png"),
        photos / "c/a.png": Path("out/c/a.mask.png"),
        photos / "c/d/e.webp": Path("out/c/d/e.mask.png"),
    }


def test_images_that_differ_only_in_their_suffix_keep_it_in_their_results(photos):
    Path("photos/b.png").touch()
    named = targets(find_images(["photos/*"]), Path("out"), ".mask.png")
    assert named[photos / "b.jpg"] == Path("out/b.jpg.mask.png")
    assert named[photos / "b.png"] == Path("out/b.png.mask.png")


def test_two_images_of_one_result_are_refused(photos):
    images = find_images(["x/1.png", "y/1.png"])
    with pytest.raises(ValueError, match=r"x/1\.png and y/1\.png have the same name"):
        targets(images, Path("out"), ".mask.png")
