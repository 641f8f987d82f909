"""Learns the time of the work on an image besides its network: decode, encode, explain."""

from collections import defaultdict

from app.batching.costs import MovingAverage

SECONDS_PER_WORK = 6e-9  # until it is measured: one pixel of a JPEG on a current CPU
ENGINE_WORK_FACTOR = 4.0  # an explanation takes 2 to 6 times as long as the network
WEIGHT = 0.1  # of one image: the last twenty images have most of the influence


class Rate:
    """Seconds for each unit of work; large images have more influence than small ones."""

    def __init__(self) -> None:
        self._seconds = MovingAverage(SECONDS_PER_WORK, WEIGHT)
        self._work = MovingAverage(1.0, WEIGHT)

    @property
    def value(self) -> float:
        """The average seconds, divided by the average work."""
        return self._seconds.value / self._work.value

    def add(self, work: float, seconds: float) -> None:
        """Add the work on one image and its seconds."""
        self._work.add(work)
        self._seconds.add(seconds)


class ImageCosts:
    """The costs of the operations of one model."""

    def __init__(self) -> None:
        self._rates: defaultdict[str, Rate] = defaultdict(Rate)  # by operation
        self._engine_s: dict[str, MovingAverage] = {}  # by what the engine does for an operation

    def seconds(self, operation: str, work: float) -> float:
        """Expected seconds of decoding and encoding an image.

        Args:
            operation: its name.
            work: in decoded pixels of an ordinary JPEG.
        """
        return work * self._rates[operation].value

    def engine_seconds(self, engine_work: str, network_s: float) -> float:
        """Expected seconds of what the engine does for an image besides the network.

        Args:
            engine_work: what it does.
            network_s: seconds of the network, from which they are guessed until they are measured.
        """
        known = self._engine_s.get(engine_work)
        return known.value if known else ENGINE_WORK_FACTOR * network_s

    def observe(self, operation: str, work: float, seconds: float) -> None:
        """Add the measured seconds of decoding and encoding an image."""
        self._rates[operation].add(work, seconds)

    def observe_engine(self, engine_work: str, seconds: float) -> None:
        """Add the measured seconds of what the engine does for one image besides the network."""
        if engine_work in self._engine_s:
            self._engine_s[engine_work].add(seconds)
        else:
            self._engine_s[engine_work] = MovingAverage(seconds, WEIGHT)
