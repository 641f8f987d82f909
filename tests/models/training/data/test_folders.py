import json

import pytest

from models.training.data.folders import has_masks, label_list, labeled, masked, visible


def test_labels_are_the_sorted_subfolders(labelled_folder, tmp_path):
    root = labelled_folder(tmp_path / "data", 2, kinds=("stripes", "disc"))
    (root / ".hidden").mkdir()
    (root / "disc/.DS_Store").touch()
    found = labeled(root)
    assert found.labels == ("disc", "stripes")
    assert found.held_out is None
    names = [found.train.name(i) for i in range(len(found.train))]
    assert names == ["disc/000.png 0", "disc/001.png 0", "stripes/000.png 1", "stripes/001.png 1"]


@pytest.mark.parametrize("name", ["val", "test"])
def test_train_and_val_define_the_split(labelled_folder, tmp_path, name):
    labelled_folder(tmp_path / "train", 2)
    labelled_folder(tmp_path / name, 1, kinds=("disc",))
    found = labeled(tmp_path)
    assert found.labels == ("cross", "disc", "stripes")
    assert (len(found.train), len(found.held_out)) == (6, 1)
    assert found.held_out.name(0) == f"{name}/disc/000.png 1"


def test_a_label_that_only_val_has_is_refused(labelled_folder, tmp_path):
    labelled_folder(tmp_path / "train", 1)
    labelled_folder(tmp_path / "val", 1, kinds=("moon",))
    with pytest.raises(ValueError, match="moon"):
        labeled(tmp_path)


def test_fewer_than_two_labels_are_refused(labelled_folder, tmp_path):
    with pytest.raises(ValueError, match="has 1 subfolders"):
        labeled(labelled_folder(tmp_path / "data", 1, kinds=("disc",)))


def test_masks_have_the_names_of_their_images(masked_folder, tmp_path):
    root = masked_folder(tmp_path / "data", 3)
    assert has_masks(root)
    found = masked(root)
    assert found.labels == ("background", "disc")
    image, truth = found.train.read(1)
    assert truth.shape == (image.height, image.width)
    assert set(truth.ravel().tolist()) == {0, 1}


def test_images_of_the_same_name_in_different_subfolders_have_masks_of_their_own(
    masked_folder, tmp_path
):
    root = masked_folder(tmp_path / "data", 2)
    for kind in ("images", "masks"):
        for number, name in enumerate(("a", "b")):
            (root / kind / name).mkdir()
            (file,) = (root / kind).glob(f"{number:03}.*")
            file.rename(root / kind / name / f"same{file.suffix}")
    train = masked(root).train
    pairs = [(image.parent.name, mask.parent.name) for image, mask in train.files]
    assert pairs == [("a", "a"), ("b", "b")]
    (root / "masks/b/same.png").unlink()
    with pytest.raises(ValueError, match=r"no mask for b/same\.jpg"):
        masked(root)


def test_masks_can_be_split_too(masked_folder, tmp_path):
    masked_folder(tmp_path / "train", 3)
    masked_folder(tmp_path / "val", 2)
    (tmp_path / "labels.json").write_text(json.dumps(["background", "disc"]))
    assert has_masks(tmp_path)
    found = masked(tmp_path)
    assert (len(found.train), len(found.held_out)) == (3, 2)


def test_the_error_names_an_image_without_a_mask(masked_folder, tmp_path):
    root = masked_folder(tmp_path / "data", 3)
    (root / "masks/001.png").unlink()
    with pytest.raises(ValueError, match=r"no mask for 001\.jpg"):
        masked(root)
    (root / "masks/002.png").unlink()
    with pytest.raises(ValueError, match="and 1 others"):
        masked(root)


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        ("labels.txt", "one\n", "1 names"),
        ("labels.txt", "one\none\n", "different"),
        ("labels.json", '{"0": "one"}', "not a list"),
        ("labels.json", "[1, 2]", "not a list"),
        ("other", "", "neither"),
    ],
)
def test_invalid_lists_of_labels_are_refused(tmp_path, file, content, error):
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=error):
        label_list(tmp_path)


def test_hidden_files_are_ignored(tmp_path):
    for name in ("b/c.png", "a.png", ".x/d.png", "b/.y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in visible(tmp_path)] == ["a.png", "c.png"]
