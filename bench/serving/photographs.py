"""Photographs for the requests: drawn by a program, the same on every machine."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WIDTH, HEIGHT, QUALITY = 640, 480, 88  # gives 75 to 95 kB, typical of web pages
COUNT = 8
EXPONENT = 1.3  # amplitude = frequency ** -EXPONENT; photographs have 0.8 to 1.5


def natural_noise(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return noise (H, W, 3) with the spectrum of photographs, mean 0 and variance 1.

    Its amplitudes fall with the frequency as in photographs (Field 1987,
    https://doi.org/10.1364/JOSAA.4.002379).
    """
    y, x = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    amplitude = 1 / np.maximum(np.hypot(y, x), 1 / WIDTH) ** EXPONENT  # (H, W // 2 + 1)
    channels = []
    for _ in range(3):
        spectrum = generator.standard_normal(amplitude.shape) * amplitude
        phase = np.exp(2j * np.pi * generator.random(amplitude.shape))
        channels.append(np.fft.irfft2(spectrum * phase, s=(HEIGHT, WIDTH)))
    noise = np.stack(channels, axis=2)
    return noise / noise.std()


def draw(seed: int) -> Image.Image:
    """Draw a photograph: objects with edges on a background of natural noise."""
    generator = np.random.default_rng(seed)
    noise = natural_noise(generator)
    gray = noise.mean(axis=2, keepdims=True)
    picture = 118 + 42 * (1.2 * gray + 0.5 * noise)  # channels are correlated
    canvas = Image.new("RGB", (WIDTH, HEIGHT))
    pen = ImageDraw.Draw(canvas)
    for _ in range(12):
        left, top = generator.integers(-60, (WIDTH, HEIGHT))
        width, height = generator.integers(40, 260, 2)
        color = tuple(int(c) for c in generator.integers(-70, 70, 3) + 128)
        pen.ellipse((left, top, left + width, top + height), fill=color)
    objects = np.asarray(canvas, np.float64)
    drawn = objects.any(axis=2, keepdims=True)
    picture = np.where(drawn, 0.5 * picture + 0.5 * objects, picture)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def write(folder: Path) -> list[Path]:
    """Write the photographs as JPEG files."""
    files = [folder / f"photo-{seed}.jpg" for seed in range(COUNT)]
    for seed, file in enumerate(files):
        data = BytesIO()
        draw(seed).save(data, "JPEG", quality=QUALITY)
        file.write_bytes(data.getvalue())
    return files
