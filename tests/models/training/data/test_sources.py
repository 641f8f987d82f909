from collections import Counter

import pytest
from PIL import Image

from models.training.data.sources import data_labels, natural_task, open_data, open_split
from models.training.scenes.scene import UNSEEN_SEED


def names(dataset) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]


def test_the_layout_defines_the_task(labelled_folder, masked_folder, pets_folder, tmp_path):
    assert natural_task(str(labelled_folder(tmp_path / "a", 1))) == "classify"
    assert natural_task(str(masked_folder(tmp_path / "b", 1))) == "segment"
    assert natural_task(str(pets_folder(tmp_path / "c", train=1, test=1))) == "segment"
    assert natural_task("scenes") is None


def test_a_fraction_of_each_label_is_held_out_by_the_seed(labelled_folder, tmp_path):
    root = str(labelled_folder(tmp_path / "data", 14))
    data, same, other = (open_data(root, "classify", seed=seed) for seed in (1, 1, 2))
    assert Counter(name[-1] for name in names(data.held_out)) == {"0": 2, "1": 2, "2": 2}
    assert len(data.train) == 36
    assert not set(names(data.train)) & set(names(data.held_out))
    assert names(data.held_out) == names(same.held_out)
    assert names(data.held_out) != names(other.held_out)


def test_masks_and_unlisted_pets_are_split_too(masked_folder, tmp_path):
    data = open_data(str(masked_folder(tmp_path / "data", 8)), "segment", seed=1)
    assert (len(data.train), len(data.held_out)) == (7, 1)


def test_listed_pets_use_the_split_of_their_lists(pets_folder, tmp_path):
    data = open_data(str(pets_folder(tmp_path / "p", train=4, test=3)), "segment", seed=1)
    assert (len(data.train), len(data.held_out)) == (4, 3)


def test_unreadable_files_are_left_out_and_named(labelled_folder, tmp_path):
    root = labelled_folder(tmp_path / "data", 4)
    (root / "disc/000.png").write_bytes(b"broken")
    (root / "disc/notes.txt").write_text("not an image")
    reports = []
    data = open_data(str(root), "classify", seed=1, watch=lambda *done: reports.append(done))
    assert reports[-1] == (13, 13)
    assert len(data.train) + len(data.held_out) == 11
    assert ["000.png" in data.left_out[0], "notes.txt" in data.left_out[1]] == [True, True]


def test_an_exception_ends_the_check_of_files(labelled_folder, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_data(str(labelled_folder(tmp_path / "d", 4)), "classify", seed=1, watch=interrupt)


def test_a_label_without_images_to_train_on_or_to_hold_out_is_refused(labelled_folder, tmp_path):
    root = labelled_folder(tmp_path / "data", 1)
    with pytest.raises(ValueError, match="no images to hold out"):
        open_data(str(root), "classify", seed=1)
    for kind in ("cross", "disc"):
        (root / kind / "000.png").write_bytes(b"broken")
    labelled_folder(tmp_path / "more", 3, kinds=("stripes",))
    (tmp_path / "more/stripes").rename(root / "stripes/more")
    with pytest.raises(ValueError, match="no images of cross, disc to train on"):
        open_data(str(root), "classify", seed=1)


def test_data_for_the_other_task_is_refused(labelled_folder, masked_folder, tmp_path):
    with pytest.raises(ValueError, match="which the task segment needs"):
        open_data(str(labelled_folder(tmp_path / "a", 1)), "segment", seed=1)
    with pytest.raises(ValueError, match="its task is segment"):
        open_data(str(masked_folder(tmp_path / "b", 1)), "classify", seed=1)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_data(str(tmp_path / "nowhere"), "classify", seed=1)


@pytest.mark.parametrize(("task", "labels"), [("classify", 6), ("segment", 7)])
def test_scenes_depend_on_the_seed_and_held_out_ones_are_unseen(task, labels):
    data = open_data("scenes:30", task, seed=5)
    assert (len(data.labels), len(data.train)) == (labels, 30)
    assert data.train.name(2) == "5/2"
    assert data.held_out.name(0) == f"{UNSEEN_SEED}/0"
    assert len(open_data("scenes", task, seed=5).train) > 1_000


def test_an_invalid_number_or_seed_of_scenes_is_refused():
    for source in ("scenes:0", "scenes:many"):
        with pytest.raises(ValueError, match="followed by a number"):
            open_data(source, "classify", seed=1)
    with pytest.raises(ValueError, match="kept for measuring"):
        open_data("scenes", "classify", seed=UNSEEN_SEED)


def test_a_folder_named_scenes_is_used_as_a_folder(labelled_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labelled_folder(tmp_path / "scenes", 2)
    assert open_data("scenes", "classify", seed=1).labels == ("cross", "disc", "stripes")


def test_a_mask_of_another_size_is_left_out(masked_folder, tmp_path):
    root = masked_folder(tmp_path / "data", 4)
    Image.new("L", (3, 3)).save(root / "masks/002.png")
    data = open_data(str(root), "segment", seed=1)
    assert len(data.left_out) == 1
    assert "002.png has 3 x 3 pixels" in data.left_out[0]


def all_names(examples) -> list[str]:
    return [name for dataset in examples.datasets for name in names(dataset)]


def test_the_parts_are_those_of_a_run_with_the_same_seed(labelled_folder, tmp_path):
    root = labelled_folder(tmp_path / "data", 8)
    (root / "disc/003.png").write_bytes(b"broken")
    data = open_data(str(root), "classify", seed=3)
    parts = {
        part: open_split(str(root), "classify", part, seed=3) for part in ("val", "train", "all")
    }
    assert all_names(parts["val"]) == names(data.held_out)
    assert all_names(parts["train"]) == names(data.train)
    assert set(all_names(parts["all"])) == {*names(data.held_out), *names(data.train)}
    assert [len(part.left_out) for part in parts.values()] == [1, 1, 1]
    assert parts["val"].labels == data.labels


def test_only_the_files_of_the_part_are_checked(labelled_folder, tmp_path):
    for name, seed in (("train", 0), ("val", 1)):
        labelled_folder(tmp_path / "data" / name, 2, seed=seed)
    root, checked = tmp_path / "data", []
    for part, count in (("val", 6), ("train", 6), ("all", 12)):
        watch = lambda done, total: checked.append(done)  # noqa: E731
        examples = open_split(str(root), "classify", part, seed=1, watch=watch)
        assert (len(examples), len(checked)) == (count, count)
        checked.clear()
    assert open_split(str(root), "classify", "val", seed=1).about == (
        "held-out images: the split of the folder"
    )


def test_images_that_are_too_few_for_a_split_are_measured_on_request(labelled_folder, tmp_path):
    root = str(labelled_folder(tmp_path / "data", 1))
    with pytest.raises(ValueError, match="no images to measure; --split all takes every image"):
        open_split(root, "classify", "val", seed=1)
    assert len(open_split(root, "classify", "all", seed=1)) == 3
    for file in (tmp_path / "data").rglob("*.png"):
        file.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"no images to measure: .*000\.png cannot be read"):
        open_split(root, "classify", "all", seed=1)


def test_parts_of_the_scenes(labelled_folder, tmp_path):
    held_out = open_split("scenes:30", "classify", "val", seed=1)
    assert names(held_out.datasets[0])[0] == f"{UNSEEN_SEED}/0"
    assert len(open_split("scenes:30", "segment", "all", seed=1)) == 30 + len(held_out)
    assert data_labels("scenes", "segment") == open_data("scenes", "segment", seed=1).labels
