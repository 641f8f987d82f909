"""Files that appear in a folder together, when all of them are complete."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished"  # inside the target, because a file cannot be moved between filesystems


@contextmanager
def published(target: Path, outdated: Collection[str] = ()) -> Iterator[Path]:
    """Yield an empty folder whose files are moved to the target when the block ends.

    The target itself stays in place, so that it can be a mount point, a link or the current folder.
    If the block raises, the target is unchanged.

    Args:
        target: is created if it does not exist.
        outdated: names of files that are deleted unless the block wrote them. All other files of
            the target are kept.
    """
    existed = target.exists()
    fresh = target / UNFINISHED
    shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed
    fresh.mkdir(parents=True)
    try:
        yield fresh
        written = sorted(path.name for path in fresh.iterdir())
        for name in written:
            (fresh / name).replace(target / name)
        for name in set(outdated).difference(written):
            (target / name).unlink(missing_ok=True)
    except BaseException:
        shutil.rmtree(fresh if existed else target, ignore_errors=True)
        raise
    fresh.rmdir()
