"""Learns the time of the work on an image besides its network: decode, encode, explain."""

from collections import defaultdict

from app.batching.costs import MovingAverage

SECONDS_PER_WORK = 6e-9  # until it is measured: one pixel of a JPEG on a current CPU
ENGINE_WORK_FACTOR = 4.0  # an explanation takes 2 to 6 times as long as the network
RIDGE = 1e12  # square of the work of an image of a megapixel
MAX_FIXED_S = 0.01  # of the time that does not depend on the work
WEIGHT = 0.1  # of one image: the last twenty images have most of the influence


class LinearCost:
    """Seconds as a linear function of the work, fitted to the last images.

    It is a ridge regression with exponential weights: as long as all images have similar work, the
    slope stays near the one of a current CPU.
    """

    def __init__(self) -> None:
        self._work, self._seconds = MovingAverage(0.0, WEIGHT), MovingAverage(0.0, WEIGHT)
        self._square, self._product = MovingAverage(0.0, WEIGHT), MovingAverage(0.0, WEIGHT)

    def seconds(self, work: float) -> float:
        """Expected seconds of an image."""
        mean_work, mean_s = self._work.value, self._seconds.value
        if mean_work == 0:
            return work * SECONDS_PER_WORK
        variance = self._square.value - mean_work**2
        covariance = self._product.value - mean_work * mean_s
        slope = (covariance + RIDGE * SECONDS_PER_WORK) / (max(0.0, variance) + RIDGE)
        fixed = min(max(0.0, mean_s - slope * mean_work), MAX_FIXED_S)
        return fixed + (mean_s - fixed) * work / mean_work

    def add(self, work: float, seconds: float) -> None:
        """Add the work on one image and its seconds."""
        self._work.add(work)
        self._seconds.add(seconds)
        self._square.add(work**2)
        self._product.add(work * seconds)


class ImageCosts:
    """The costs of the operations of one model."""

    def __init__(self) -> None:
        self._images: defaultdict[str, LinearCost] = defaultdict(LinearCost)  # by operation
        self._engine_s: dict[str, MovingAverage] = {}  # by what the engine does for an operation

    def seconds(self, operation: str, work: float) -> float:
        """Expected seconds of decoding and encoding an image.

        Args:
            operation: its name.
            work: in decoded pixels of an ordinary JPEG.
        """
        return self._images[operation].seconds(work)

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
        self._images[operation].add(work, seconds)

    def observe_engine(self, engine_work: str, seconds: float) -> None:
        """Add the measured seconds of what the engine does for one image besides the network."""
        if engine_work in self._engine_s:
            self._engine_s[engine_work].add(seconds)
        else:
            self._engine_s[engine_work] = MovingAverage(seconds, WEIGHT)
