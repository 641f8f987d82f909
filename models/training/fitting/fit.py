"""From a plan to the folder of a checkpoint: what is begun or gone on with, and what is written.

Does not know what happens within an epoch.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import Checkpoint, load, save
from models.training.atomic_folder import published
from models.training.confusion import Confusion
from models.training.data.examples import Data
from models.training.data.loader import Feed
from models.training.data.sources import open_data
from models.training.fitting.history import CURVES, METRICS, QUALITY, draw_curves, write_metrics
from models.training.fitting.model_card import Fitted, model_card
from models.training.fitting.plan import Plan
from models.training.fitting.progress import Watcher
from models.training.fitting.resume_state import STATE, read_state
from models.training.fitting.snapshots import PROGRESS
from models.training.fitting.trainer import Run, Stop

CHECKPOINT = ("config.json", "model.safetensors", "preprocessor_config.json", "README.md")
OURS = {*CHECKPOINT, METRICS, CURVES, PROGRESS, STATE, f"{STATE}.new"}  # that a run may replace
NO_CURVES = f"no {CURVES}: matplotlib draws it (pip install 'patchserve[figures]')"


def fit(
    plan: Plan,
    out: Path,
    *,
    overwrite: bool = False,
    device: str = "auto",
    stop: Stop = lambda: False,
    watcher: Watcher | None = None,
) -> Path:
    """Train a network by the plan; the checkpoint, its card and its curves fill the folder `out`.

    Until all is done the folder has the run's state, for `resume`, and metrics.csv. Interrupted
    when `stop` says so. FileExistsError when the folder is there and not `overwrite`, or has
    files that are no run's; ValueError and OSError for a plan that cannot be carried out.
    """
    vacant(out, overwrite=overwrite)
    run = prepared(plan, device, stop, watcher or Watcher())
    run.about = {"plan": plan.anchored().document(), "data": fingerprint(run.data)}
    (out / STATE).unlink(missing_ok=True)
    return finish(run, plan, out, stop, watcher or Watcher())


def resume(
    out: Path,
    *,
    said: Mapping[str, Any] | None = None,
    device: str = "auto",
    stop: Stop = lambda: False,
    watcher: Watcher | None = None,
) -> Path:
    """Go on with the run that was interrupted in the folder, to the very same result.

    ValueError when there is none, when the data is not what it was, or when the plan is not what
    is `said` of it, by field.
    """
    state = read_state(out)
    plan = Plan(**state["plan"])
    if otherwise := plan.contradicts(said or {}):
        raise ValueError(f"the run in {out} cannot change: {otherwise}")
    run = prepared(plan, device, stop, watcher or Watcher())
    run.about = {"plan": state["plan"], "data": fingerprint(run.data)}
    if run.about["data"] != state["data"]:
        raise ValueError(f"{plan.data} has changed since the run in {out} began")
    run.restore(state)
    return finish(run, plan, out, stop, watcher or Watcher())


def vacant(out: Path, *, overwrite: bool) -> None:
    """FileExistsError when the folder is not free to be filled."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file")
    present = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if strange := sorted(present - OURS):
        raise FileExistsError(f"{out} has {strange[0]}, which is no run's: name another folder")
    if present and not overwrite:
        how = "--resume goes on with its run, " if STATE in present else ""
        raise FileExistsError(f"{out} is there already: {how}--overwrite replaces it")


def prepared(plan: Plan, device: str, stop: Stop, watcher: Watcher) -> Run:
    """The run at its beginning; always the same for the same plan and data."""

    def checked(done: int, total: int) -> None:
        watcher.checking(done, total)
        if stop():
            raise KeyboardInterrupt

    loaded = plan.load()
    data = open_data(plan.data, plan.task_for(loaded), seed=plan.seed, watch=checked)
    watcher.left_out(data.left_out)
    torch.manual_seed(plan.seed)
    start = plan.start(data, loaded)
    watcher.say(f"{start.about}; {data.about}")
    teacher = None if plan.teacher is None else load(plan.teacher)
    where = chosen(device)
    recipe = plan.recipe
    size = min(recipe.batch_size, len(data.train))
    feed = Feed(data.train, start.preprocessing, recipe.augmentation, size, plan.seed)
    return Run(recipe, data, start, feed, device=where, teacher=teacher)


def finish(run: Run, plan: Plan, out: Path, stop: Stop, watcher: Watcher) -> Path:
    """Train what is left and put the result in the folder's place."""
    quality = run.go(out, stop, watcher)
    checkpoint = Checkpoint(
        run.loop.result(),
        run.data.labels,
        run.start.preprocessing,
        run.data.task,
        name=out.absolute().name,
    )
    with published(out) as folder:
        write(run, plan, checkpoint, quality, folder)
        if not draw_curves(run.rows, QUALITY[run.data.task], checkpoint.name, folder):
            watcher.say(NO_CURVES)
    return out


def write(run: Run, plan: Plan, checkpoint: Checkpoint, quality: Confusion, folder: Path) -> None:
    """All of the folder but its curves."""
    fitted = Fitted(
        checkpoint=checkpoint,
        data=run.data,
        recipe=run.recipe,
        about=run.start.about,
        command=plan.command(f"runs/{checkpoint.name}"),
        seed=plan.seed,
        minutes=run.at.spent / 60,
        quality=quality,
    )
    save(checkpoint, folder)
    (folder / "README.md").write_text(model_card(fitted), encoding="utf-8")
    write_metrics(run.rows, folder)
    if run.snapshots is not None:
        run.snapshots.draw(folder)


def fingerprint(data: Data) -> str:
    """Of what the examples are called: whether a run sees the same ones in the same order."""
    content: list[Any] = [data.task, data.labels]
    content += [[part.name(i) for i in range(len(part))] for part in (data.train, data.held_out)]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def chosen(device: str) -> torch.device:
    """The device of that name; auto is CUDA where there is one. ValueError for one that is not."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"there is no device {device!r}: {error}") from error
    return found
