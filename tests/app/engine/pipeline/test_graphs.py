"""Recorded work: batch sizes, padding of a batch, and the memory of the outputs."""

import time

import pytest
import torch

from app.engine.pipeline import Graphs, Pipeline

SIDE = 4


def work(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    sums = batch.float().sum(dim=(1, 2, 3))
    return sums, torch.stack([sums, -sums], dim=1)


def random_batch(count: int, device: torch.device | str = "cpu", side: int = SIDE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    batch = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    return batch.to(device)


def image(device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8, device=device)


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_every_batch_has_the_outputs_of_the_work(streams, device, count):
    graphs = Graphs(work, streams.recorder)
    graphs.record(image(device), [1, 2, 4, 8])
    # the first batch fills the memory of the recordings
    for batch in (random_batch(8, device), random_batch(count, device)):
        outputs = [output.clone() for output in graphs(batch)]
        for found, expected in zip(outputs, work(batch), strict=True):
            assert torch.equal(found, expected)


@torch.inference_mode()
def test_a_batch_is_padded_to_the_next_recorded_size(repeating):
    recorder = repeating()
    graphs = Graphs(work, recorder)
    graphs.record(image(), [1, 4, 8])
    for count in (1, 2, 4, 5, 8, 9):
        graphs(random_batch(count))
    assert recorder.replays == [1, 4, 4, 8, 8]  # no recording has nine images


@torch.inference_mode()
def test_a_batch_is_not_padded_to_more_than_twice_its_size(repeating):
    recorder = repeating()
    graphs = Graphs(work, recorder)
    graphs.record(image(), [8])
    for count in (1, 3, 4):
        batch = random_batch(count)
        assert torch.equal(graphs(batch)[0], work(batch)[0])
    assert recorder.replays == [8]


@torch.inference_mode()
def test_the_largest_size_is_recorded_first(repeating):
    recorder = repeating()
    graphs = Graphs(work, recorder)
    graphs.record(image(), [1, 2, 4])
    assert recorder.order == [4, 2, 1]
    assert graphs.sizes == (1, 2, 4)


@torch.inference_mode()
def test_images_of_another_shape_run_without_a_recording(repeating):
    recorder = repeating()
    graphs = Graphs(work, recorder)
    graphs.record(image(), [1, 2])
    batch = random_batch(2, side=6)
    assert torch.equal(graphs(batch)[0], work(batch)[0])
    assert recorder.replays == []


@torch.inference_mode()
def test_a_size_that_cannot_be_recorded_runs_without_a_recording(repeating, caplog):
    recorder = repeating(refuses=lambda count: count > 2)
    graphs = Graphs(work, recorder)
    graphs.record(image(), [1, 2, 4])
    assert graphs.sizes == (1, 2)
    assert "batches of 4 are not recorded: operation not permitted" in caplog.text
    batch = random_batch(3)
    assert torch.equal(graphs(batch)[0], work(batch)[0])


@torch.inference_mode()
def test_sizes_whose_images_do_not_fit_into_memory_run_without_a_recording(
    repeating, monkeypatch, caplog
):
    new_zeros = torch.Tensor.new_zeros

    def scarce(tensor, count, *shape):
        if count > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return new_zeros(tensor, count, *shape)

    monkeypatch.setattr(torch.Tensor, "new_zeros", scarce)
    graphs = Graphs(work, repeating())
    graphs.record(image(), [1, 2, 4])
    assert graphs.sizes == (1, 2)
    assert "batches of 4 are not recorded: CUDA out of memory" in caplog.text
    for count in (2, 3):
        batch = random_batch(count)
        assert torch.equal(graphs(batch)[0], work(batch)[0])


@torch.inference_mode()
def test_no_recording_starts_after_the_end(repeating):
    graphs = Graphs(work, repeating())
    graphs.record(image(), [1, 2], end=time.monotonic())
    assert graphs.sizes == ()
    batch = random_batch(1)
    assert torch.equal(graphs(batch)[0], work(batch)[0])


@torch.inference_mode()
def test_without_a_recorder_the_work_itself_runs():
    graphs = Graphs(work)
    graphs.record(image(), [1, 2])
    assert graphs.sizes == ()
    batch = random_batch(2)
    assert torch.equal(graphs(batch)[0], work(batch)[0])


def test_a_replay_does_not_overwrite_results_of_the_batch_before(streams, device):
    graphs = Graphs(work, streams.recorder)
    graphs.record(image(device), [1, 2, 4])
    pipeline = Pipeline(streams)
    batches = [random_batch(count).numpy() for count in (3, 4, 1, 2, 4)]
    open_, found = [], []
    for batch in batches:
        open_.append(pipeline.launch(list(batch), graphs, lambda raw: [raw[1].topk(1).values]))
        if len(open_) == 2:
            found.append(open_.pop(0)().results)
    found.append(open_.pop()().results)
    for results, batch in zip(found, batches, strict=True):
        assert torch.equal(results[0][:, 0], work(torch.from_numpy(batch))[0])
