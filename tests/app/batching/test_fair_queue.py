"""The fair queue: flows get equal time, and each flow is served by deadline."""

from collections import Counter
from dataclasses import dataclass

from app.batching.fair_queue import FairQueue, FlowKey, flow_of


@dataclass(eq=False)
class Image:
    client: str
    deadline: float
    seconds: float = 1.0
    exponent: int = 0

    @property
    def flow(self) -> FlowKey:
        return FlowKey(self.client, self.exponent)


def queue_of(*images: Image) -> FairQueue[Image]:
    queue: FairQueue[Image] = FairQueue()
    for image in images:
        queue.add(image)
    return queue


def serve(queue: FairQueue[Image]) -> Image:
    """Take the next image from the queue."""
    image = queue.next().items[0]
    queue.remove(image)
    queue.charge(image, image.seconds)
    return image


def test_a_flow_is_served_by_deadline():
    queue = queue_of(Image("a", 3.0), Image("a", 1.0), Image("a", 2.0))
    assert [serve(queue).deadline for _ in range(3)] == [1.0, 2.0, 3.0]
    assert queue.next() is None


def test_clients_get_equal_time_whatever_their_images_cost():
    cheap = [Image("cheap", 9.0, 0.1) for _ in range(200)]
    costly = [Image("costly", 1.0, 2.0) for _ in range(20)]
    queue, used = queue_of(*cheap, *costly), Counter()
    while used["cheap"] < 10.0:
        image = serve(queue)
        used[image.client] += image.seconds
        assert abs(used["cheap"] - used["costly"]) <= 2.0


def test_the_flows_of_a_client_share_its_time():
    many = [Image("many", 1.0, 2.0**number, number) for number in range(5) for _ in range(9)]
    one = [Image("one", 9.0, 1.0) for _ in range(400)]
    queue, used = queue_of(*many, *one), Counter()
    while used["one"] < 100.0:
        image = serve(queue)
        used[image.client] += image.seconds
        used[image.client, image.exponent] += image.seconds
        assert abs(used["many"] - used["one"]) <= 16.0
    assert all(abs(used["many", number] - 20.0) <= 16.0 for number in range(5))


def test_a_flow_that_was_empty_saves_no_time_of_its_client():
    queue = queue_of(*(Image("a", 1.0, exponent=0) for _ in range(10)), Image("b", 0.0))
    for _ in range(6):
        serve(queue)
    for _ in range(4):
        queue.add(Image("a", 2.0, exponent=1))
    assert [serve(queue).exponent for _ in range(4)] == [1, 0, 1, 0]


def test_a_client_with_an_idle_flow_keeps_one_share():
    queue = queue_of(*(Image("other", 9.0) for _ in range(20)), Image("a", 1.0, 5.0, 3))
    serve(queue)  # other or a
    serve(queue)
    for _ in range(8):
        serve(queue)
    for number in range(3):
        queue.add(Image("a", 1.0, 1.0, number))
        queue.add(Image(f"guest {number}", 1.0))
    assert len({id(flow.share) for flow in queue.flows if flow.items}) == 5


def test_a_new_client_is_next_but_saves_no_time():
    queue = queue_of(*(Image("old", float(number)) for number in range(10)))
    for _ in range(5):
        serve(queue)
    for _ in range(3):
        queue.add(Image("new", 99.0))
    assert [serve(queue).client for _ in range(5)] == ["new", "old", "new", "old", "new"]


def test_clients_that_left_are_forgotten():
    queue = queue_of(*(Image("steady", 1.0) for _ in range(101)))
    for number in range(100):
        serve(queue)
        queue.add(Image(f"guest {number}", 0.0))
        serve(queue)
    assert len(queue.flows) < 5


def test_an_image_can_be_removed_from_its_flow():
    first, second = Image("a", 1.0), Image("a", 2.0)
    queue = queue_of(first, second)
    queue.remove(first)
    assert first not in queue
    assert second in queue
    assert (len(queue), list(queue)) == (1, [second])
    assert Image("b", 1.0) not in queue


def test_an_images_flow_is_its_client_and_the_magnitude_of_its_cost():
    assert flow_of("a", 0.001) == flow_of("a", 0.03) == flow_of("a", 0.0)
    assert flow_of("a", 0.001) != flow_of("b", 0.001)
    assert len({flow_of("a", seconds) for seconds in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)}) == 6
    assert flow_of("a", 0.6) == flow_of("a", 0.9)
