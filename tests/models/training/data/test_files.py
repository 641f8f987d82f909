import numpy as np
import pytest
from PIL import Image

from models.training.data.files import (
    LabeledFiles,
    MaskedFiles,
    read_image,
    read_label_map,
)


def test_the_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 4)).save(tmp_path / "turned.png", exif=exif)
    image = read_image(tmp_path / "turned.png")
    assert (image.mode, image.size) == ("RGB", (4, 8))


@pytest.mark.parametrize("content", [b"no image", b""])
def test_the_error_names_a_file_that_is_no_image(tmp_path, content):
    (tmp_path / "odd.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.png cannot be read as an image") as refused:
        read_image(tmp_path / "odd.png")
    assert str(refused.value).count("odd.png") == 1


def test_a_draft_detects_a_truncated_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    read_image(tmp_path / "cut.jpg", draft=True)
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.jpg"):
        read_image(tmp_path / "cut.jpg", draft=True)


def test_a_palette_mask_has_the_values_of_its_indices(tmp_path):
    indices = np.array([[0, 1], [2, 255]], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.save(tmp_path / "mask.png")
    assert read_label_map(tmp_path / "mask.png").tolist() == indices.tolist()


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
def test_a_mask_of_one_channel_has_one_byte_per_pixel(tmp_path, mode):
    Image.new(mode, (3, 2), 1).save(tmp_path / "mask.png")
    label_map = read_label_map(tmp_path / "mask.png")
    assert (label_map.dtype, label_map.shape) == (np.uint8, (2, 3))
    assert (label_map == 1).all()


def test_a_mask_in_color_or_with_too_high_labels_is_refused(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "color.png")
    Image.new("I;16", (3, 2), 256).save(tmp_path / "high.png")
    (tmp_path / "odd.png").write_bytes(b"odd")
    for name, error in (("color", "mode is RGB"), ("high", "label 256"), ("odd", "as a mask")):
        with pytest.raises(ValueError, match=error):
            read_label_map(tmp_path / f"{name}.png")


def pair(tmp_path, size: tuple[int, int], label: int) -> MaskedFiles:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    Image.new("L", size, label).save(tmp_path / "a.mask.png")
    files = ((tmp_path / "a.png", tmp_path / "a.mask.png"),)
    return MaskedFiles(tmp_path, files, read_label_map, 2)


@pytest.mark.parametrize("label", [1, 255])
def test_a_mask_of_the_same_size_is_the_truth(tmp_path, label):
    dataset = pair(tmp_path, (4, 3), label)
    dataset.check(0)
    image, truth = dataset.read(0)
    assert image.size == (4, 3)
    assert (truth == label).all()
    assert dataset.name(0) == "a.png"


@pytest.mark.parametrize(
    ("size", "label", "error"), [((3, 4), 0, "3 x 4 pixels"), ((4, 3), 2, "the highest is 1")]
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path, size, label, error):
    with pytest.raises(ValueError, match=error):
        pair(tmp_path, size, label).check(0)


def test_selected_examples_keep_their_names_and_labels(tmp_path):
    files = tuple((tmp_path / f"{n}.png", n) for n in range(4))
    taken = LabeledFiles(tmp_path, files).take([2, 0])
    assert [taken.name(i) for i in range(len(taken))] == ["2.png 2", "0.png 0"]
