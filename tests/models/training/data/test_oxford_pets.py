import numpy as np
import pytest
from PIL import Image

from models.training.data.oxford_pets import is_pets, listed, pets


def test_the_lists_define_the_split(pets_folder, tmp_path):
    root = pets_folder(tmp_path / "pets", train=5, test=3)
    assert is_pets(root)
    found = pets(root, "segment")
    assert found.labels == ("pet", "background", "border")
    assert (len(found.train), len(found.held_out)) == (5, 3)
    assert found.held_out.name(0) == "images/great_pyrenees_5.jpg"


def test_labels_of_trimaps_start_at_zero(pets_folder, tmp_path):
    root = pets_folder(tmp_path / "pets", train=1, test=1)
    image, truth = pets(root, "segment").train.read(0)
    trimap = np.asarray(Image.open(root / "annotations/trimaps/Abyssinian_0.png"))
    assert truth.tolist() == (trimap - 1).tolist()
    assert truth.shape == (image.height, image.width)
    assert set(truth.ravel().tolist()) == {0, 1, 2}


def test_breeds_are_the_names_of_the_files_without_their_number(pets_folder, tmp_path):
    found = pets(pets_folder(tmp_path / "pets", train=4, test=2), "classify")
    assert found.labels == ("Abyssinian", "great_pyrenees")
    assert [found.train.read(i).truth for i in range(4)] == [0, 1, 0, 1]


def test_without_lists_every_trimap_is_an_example(pets_folder, tmp_path):
    root = pets_folder(tmp_path / "pets", train=3, test=2)
    (root / "annotations/test.txt").unlink()
    (root / "annotations/trimaps/._Abyssinian_0.png").touch()  # as in the published archive
    found = pets(root, "segment")
    assert len(found.train) == 5
    assert found.held_out is None


def test_the_error_names_a_listed_image_that_is_missing(pets_folder, tmp_path):
    root = pets_folder(tmp_path / "pets", train=3, test=2)
    (root / "images/great_pyrenees_1.jpg").unlink()
    with pytest.raises(ValueError, match="no image great_pyrenees_1"):
        pets(root, "segment")


def test_a_mask_with_other_values_is_refused(pets_folder, tmp_path):
    root = pets_folder(tmp_path / "pets", train=1, test=1)
    Image.new("L", (40, 36), 0).save(root / "annotations/trimaps/Abyssinian_0.png")
    with pytest.raises(ValueError, match="not a trimap"):
        pets(root, "segment").train.check(0)


def test_comments_and_empty_lines_of_a_list_are_skipped(tmp_path):
    (tmp_path / "list.txt").write_text("# comment\nBeagle_1 2 1 1\n\nBeagle_2 2 1 1\n")
    assert listed(tmp_path / "list.txt") == ["Beagle_1", "Beagle_2"]
