"""Batches through the pipeline: results, memory and timings."""

import threading

import numpy as np
import pytest
import torch

from app.engine.pipeline import Pipeline, streams_of
from app.engine.pipeline.streams import HostStreams


def random_images(count: int, *, seed: int, size: tuple[int, int] = (4, 6)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def sums(batch: torch.Tensor) -> torch.Tensor:
    return batch.float().sum(dim=(1, 2, 3))


def expected(images: list[np.ndarray]) -> list[float]:
    return [float(image.sum()) for image in images]


def test_a_batch_returns_its_reduced_results(streams):
    images = random_images(3, seed=0)
    collect = Pipeline(streams).launch(images, sums, lambda raw: [raw, raw.argmax()])
    totals, best = collect().results
    assert totals.device.type == "cpu"
    assert totals.tolist() == expected(images)
    assert best.item() == np.argmax(expected(images))


def test_launching_the_next_batch_does_not_change_the_first(streams):
    pipeline = Pipeline(streams)
    batches = [random_images(count, seed=count) for count in (2, 5, 1, 5, 3)]
    found, open_ = [], []
    for images in batches:
        open_.append(pipeline.launch(images, sums, lambda raw: [raw]))
        if len(open_) == 2:
            found.append(open_.pop(0)().results[0].tolist())
    found.append(open_.pop()().results[0].tolist())
    assert found == [expected(images) for images in batches]


def test_later_batches_do_not_change_earlier_results(streams):
    pipeline = Pipeline(streams)
    images = random_images(2, seed=1)
    kept = pipeline.launch(images, sums, lambda raw: [raw])().results[0]
    for seed in range(2, 6):
        pipeline.launch(random_images(2, seed=seed), sums, lambda raw: [raw])()
    assert kept.tolist() == expected(images)


def test_a_staging_buffer_is_reused_only_after_its_batch_is_collected():
    lengths = []

    class Counting(HostStreams):
        def buffers(self, length):
            lengths.append(length)
            return super().buffers(length)

    pipeline = Pipeline(Counting())
    images = random_images(2, seed=0)
    first, second = (pipeline.launch(images, sums, lambda raw: [raw]) for _ in range(2))
    assert len(lengths) == 2
    first()
    second()
    for count in (2, 1, 2):
        pipeline.launch(images[:count], sums, lambda raw: [raw])()
    assert len(lengths) == 2
    pipeline.launch(random_images(3, seed=1), sums, lambda raw: [raw])()
    assert lengths[2:] == [3 * 4 * 6 * 3]


def test_a_buffer_takes_images_of_different_sizes(streams):
    pipeline = Pipeline(streams)
    for size in [(8, 8), (2, 3), (5, 4)]:
        images = random_images(2, seed=0, size=size)
        (same,) = pipeline.launch(images, torch.clone, lambda raw: [raw])().results
        assert same.numpy().tolist() == np.stack(images).tolist()


def test_images_of_unequal_sizes_are_refused(streams):
    images = [*random_images(1, seed=0), *random_images(1, seed=0, size=(2, 2))]
    with pytest.raises(ValueError, match="shape"):
        Pipeline(streams).launch(images, sums, lambda raw: [raw])


def test_every_stage_has_its_seconds(streams):
    batch = Pipeline(streams).launch(random_images(2, seed=0), sums, lambda raw: [raw])()
    assert set(batch.stages) == {"stage_in", "compute", "postprocess"}
    assert all(seconds >= 0 for seconds in batch.stages.values())
    on_device = batch.stages["compute"] + batch.stages["postprocess"]
    assert batch.device_s == pytest.approx(on_device, abs=1e-5)


def test_a_cpu_runs_batches_of_many_threads_at_once():
    pipeline = Pipeline(streams_of(torch.device("cpu")))
    barrier, wrong = threading.Barrier(4, timeout=30), []

    def lane(seed: int) -> None:
        barrier.wait()
        for round_ in range(50):
            images = random_images(1 + round_ % 3, seed=seed + round_)
            found = pipeline.launch(images, sums, lambda raw: [raw])().results[0].tolist()
            if found != expected(images):
                wrong.append(images)

    threads = [threading.Thread(target=lane, args=(100 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
