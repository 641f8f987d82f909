from dataclasses import replace

import numpy as np
import pytest
import torch

from models.preprocessing import Preprocessing
from models.training.data.augmentation import Augmentation
from models.training.data.loader import Feed, as_served
from models.training.data.sources import open_data

PREPROCESSING = Preprocessing(size=(16, 20))


@pytest.fixture
def feed(labelled_folder, tmp_path) -> Feed:
    data = open_data(str(labelled_folder(tmp_path / "data", 8)), "classify", seed=1)
    augmentation = Augmentation(flip=0.5, smallest_crop=0.5, contrast=0.2)
    return Feed(data.train, PREPROCESSING, augmentation, 6, seed=3)  # 21 examples


def test_an_epoch_has_every_example_once_in_batches_of_nearly_equal_size(feed):
    batches = list(feed.epoch(0))
    assert [len(batch) for batch in batches] == [6, 5, 5, 5]
    assert feed.steps == len(batches)
    assert torch.cat([batch.truth for batch in batches]).bincount().tolist() == [7, 7, 7]
    assert batches[0].images.shape == (6, 16, 20, 3)
    assert batches[0].images.dtype == torch.uint8


def test_epochs_differ_and_an_epoch_is_reproducible(feed):
    one, same, other = (next(feed.epoch(number)) for number in (1, 1, 2))
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)


def test_an_epoch_can_start_in_the_middle(feed):
    whole, rest = list(feed.epoch(0)), list(feed.epoch(0, start=2))
    assert len(rest) == 2
    for one, same in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.images, same.images)
        assert torch.equal(one.truth, same.truth)
    assert list(feed.epoch(0, start=4)) == []


def test_label_maps_have_the_size_of_the_images(masked_folder, tmp_path):
    data = open_data(str(masked_folder(tmp_path / "data", 6)), "segment", seed=1)
    batch = next(Feed(data.train, PREPROCESSING, Augmentation(), 4, seed=3).epoch(0))
    assert batch.truth.shape == batch.images.shape[:3]
    assert batch.truth.dtype == torch.uint8


def test_examples_as_served_keep_their_order_and_truth(masked_folder, tmp_path):
    dataset = open_data(str(masked_folder(tmp_path / "data", 6)), "segment", seed=1).train
    groups = list(as_served(dataset, PREPROCESSING, 4))
    assert [len(group) for group in groups] == [4, 1]
    for index, (image, truth) in enumerate(example for group in groups for example in group):
        assert image.size == (20, 16)
        assert np.array_equal(truth, dataset.read(index).truth)


def test_a_preprocessing_without_a_fixed_size_is_refused(feed):
    varying = replace(feed, preprocessing=Preprocessing(size=None, shortest_edge=16))
    with pytest.raises(ValueError, match="one image size"):
        next(varying.epoch(0))
