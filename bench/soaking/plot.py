"""Owns the picture of the soak: memory, latency and answers over time.

Knows nothing of how they were measured.
"""

from pathlib import Path

from bench.soaking.report import Found


def draw(found: Found, file: Path) -> None:
    """Three rows over the minutes of the run; the warm-up is shaded."""
    from matplotlib.figure import Figure  # only who draws needs it

    figure = Figure(figsize=(11, 9), layout="constrained")
    memory, latency, answers = figure.subplots(3, 1, sharex=True)
    memory.plot([one.at / 60 for one in found.samples], [one.rss for one in found.samples])
    memory.set_ylabel("resident memory, MB")
    rise = found.rise
    interval = f"{rise.value:+.3f} MB/min ({rise.low:+.3f} to {rise.high:+.3f})"
    memory.set_title(f"after the warm-up {interval}", fontsize=10)
    at = [second[0] / 60 for second in found.seconds]
    for place, name in ((5, "p50"), (6, "p99")):
        taken = [second[place] for second in found.seconds]
        latency.semilogy(at, taken, linewidth=0.8, label=f"{name} of good requests")
    latency.set_ylabel("ms, in each second")
    for place, name in ((1, "good"), (3, "refused by kind, left, probes"), (2, "503 overloaded")):
        answers.plot(at, [second[place] for second in found.seconds], linewidth=0.8, label=name)
    odd = [second[4] for second in found.seconds]
    answers.plot(at, odd, color="red", label=f"unexpected: {found.unexpected}")
    answers.set_yscale("symlog", linthresh=1)
    answers.set_ylabel("answers in each second")
    answers.set_xlabel("minutes")
    answers.set_xlim(0, found.samples[-1].at / 60)
    for axis in (memory, latency, answers):
        axis.axvspan(0, found.warm_up, color="black", alpha=0.06)
        axis.grid(visible=True, alpha=0.3)
    for axis in (latency, answers):
        axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)
