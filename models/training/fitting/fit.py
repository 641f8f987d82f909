"""Start or resume a run by its plan, and write the checkpoint's folder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import Checkpoint, load, save
from models.training.atomic_folder import UNFINISHED, published
from models.training.confusion import Confusion
from models.training.data.examples import Data
from models.training.data.loader import Feed
from models.training.data.sources import open_data
from models.training.fitting.history import CURVES, METRICS, draw_curves, write_metrics
from models.training.fitting.model_card import Fitted, model_card
from models.training.fitting.plan import Plan
from models.training.fitting.progress import Watcher
from models.training.fitting.record import RECORD, Record, write_record
from models.training.fitting.resume_state import STATE, read_state
from models.training.fitting.snapshots import PROGRESS
from models.training.fitting.trainer import Run, Stop

CHECKPOINT = ("config.json", "model.safetensors", "preprocessor_config.json", "README.md")
# the files that a run may replace or delete
RUN_FILES = {*CHECKPOINT, RECORD, METRICS, CURVES, PROGRESS, STATE, f"{STATE}.new"}
NO_CURVES = f"no {CURVES}: matplotlib draws it (make install EXTRAS=figures)"


def fit(
    plan: Plan,
    out: Path,
    *,
    overwrite: bool = False,
    device: str = "auto",
    stop: Stop = lambda: False,
    watcher: Watcher | None = None,
) -> Path:
    """Train a network by the plan, and write checkpoint, model card and curves to `out`.

    Until the run ends, the folder contains metrics.csv and the run's state, for `resume`.

    Raises:
        Interrupted: `stop` returned True during the training; the folder contains the state.
        KeyboardInterrupt: `stop` returned True while the files were checked; nothing was written.
        FileExistsError: the folder exists, and not `overwrite`, or it contains other files.
        ValueError, OSError: the plan cannot be carried out.
    """
    check_target(out, overwrite=overwrite)
    run = prepared(plan, device, stop, watcher or Watcher())
    run.metadata = {"plan": plan.absolute().document(), "data": fingerprint(run.data)}
    (out / STATE).unlink(missing_ok=True)
    return finish(run, plan, out, stop, watcher or Watcher())


def resume(
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    stop: Stop = lambda: False,
    watcher: Watcher | None = None,
) -> Path:
    """Resume the interrupted run in the folder; its result equals an uninterrupted run's.

    Raises:
        Interrupted: `stop` returned True during the training; the folder contains the state.
        KeyboardInterrupt: `stop` returned True while the files were checked; the folder is as
            before.
        ValueError: there is no interrupted run, its data has changed, or `options` (by field) do
            not match its plan.
    """
    state = read_state(out)
    plan = Plan(**state["plan"])
    if difference := plan.difference(options or {}):
        raise ValueError(f"the run in {out} cannot change: {difference}")
    run = prepared(plan, device, stop, watcher or Watcher())
    run.metadata = {"plan": state["plan"], "data": fingerprint(run.data)}
    if run.metadata["data"] != state["data"]:
        raise ValueError(f"{plan.data} has changed since the run in {out} started")
    run.restore(state)
    return finish(run, plan, out, stop, watcher or Watcher())


def check_target(out: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError if a run must not write to the folder."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file")
    present = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if foreign := sorted(present - RUN_FILES - {UNFINISHED}):
        raise FileExistsError(
            f"{out} contains {foreign[0]}, which is not a file of a run: choose another folder"
        )
    if present and not overwrite:
        how = "--resume continues its run, " if STATE in present else ""
        raise FileExistsError(f"{out} exists already: {how}--overwrite replaces it")


def prepared(plan: Plan, device: str, stop: Stop, watcher: Watcher) -> Run:
    """Return the run before its first step; the same plan and data give the same run."""

    def checked(done: int, total: int) -> None:
        watcher.checking(done, total)
        if stop():
            raise KeyboardInterrupt

    loaded = plan.load()
    data = open_data(plan.data, plan.task_for(loaded), seed=plan.seed, watch=checked)
    watcher.left_out(data.left_out)
    torch.manual_seed(plan.seed)
    start = plan.start(data, loaded)
    watcher.say(f"{start.about}. {data.about}")
    teacher = None if plan.teacher is None else load(plan.teacher)
    where = select_device(device)
    recipe = plan.recipe
    size = min(recipe.batch_size, len(data.train))
    feed = Feed(data.train, start.preprocessing, recipe.augmentation, size, plan.seed)
    return Run(recipe, data, start, feed, device=where, teacher=teacher)


def finish(run: Run, plan: Plan, out: Path, stop: Stop, watcher: Watcher) -> Path:
    """Train the remaining epochs and replace the run's files with the result.

    The state is deleted after the result is complete, so a killed process can be resumed.
    """
    quality = run.go(out, stop, watcher)
    checkpoint = Checkpoint(
        run.loop.result(),
        run.data.labels,
        run.start.preprocessing,
        run.data.task,
        name=out.absolute().name,
    )
    with published(out, outdated=RUN_FILES) as folder:
        write(run, described(run, plan, checkpoint, quality, out), folder)
        if not draw_curves(run.rows, run.data.task, checkpoint.name, folder):
            watcher.say(NO_CURVES)
    return out


def described(
    run: Run, plan: Plan, checkpoint: Checkpoint, quality: Confusion, out: Path
) -> Fitted:
    """Return the facts for the model card; its commands name the folders by their whole paths."""
    return Fitted(
        checkpoint=checkpoint,
        data=run.data,
        recipe=run.recipe,
        about=run.start.about,
        source=str(out.absolute()),
        command=plan.absolute().command(f"{out.absolute()}-again"),  # `out` exists by then
        seed=plan.seed,
        minutes=run.at.spent / 60,
        quality=quality,
    )


def write(run: Run, fitted: Fitted, folder: Path) -> None:
    """Write all files of the folder except the curves."""
    save(fitted.checkpoint, folder)
    (folder / "README.md").write_text(model_card(fitted), encoding="utf-8")
    write_metrics(run.rows, run.data.task, folder)
    recipe = run.recipe
    record = Record(fitted.seed, recipe.batch_size, recipe.at_input_size)
    write_record(folder, record, fitted.quality.summary(run.data.task))
    if run.snapshots is not None:
        run.snapshots.draw(folder)


def fingerprint(data: Data) -> str:
    """Return a hash of the examples' names in order, to detect changed data."""
    content: list[Any] = [data.task, data.labels]
    content += [[part.name(i) for i in range(len(part))] for part in (data.train, data.held_out)]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def select_device(device: str) -> torch.device:
    """Return the device; auto is CUDA if available. ValueError if the device does not exist."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {device!r} does not exist: {error}") from error
    return found
