"""The cores that this process may use: by its affinity, and by the CPU quotas of its cgroups."""

import os
from collections.abc import Iterator
from math import ceil, inf
from pathlib import Path, PurePosixPath

UNLIMITED = ("max", "-1")  # quotas of cgroup v2 and v1
ROOT = Path("/")


def usable_cores() -> set[int]:
    """The cores that this process may use; empty if the system cannot tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()  # Linux


def core_count(root: Path = ROOT) -> int:
    """The number of cores that this process may use; all cores if the system cannot tell.

    A quota is rounded up: with 1.5 CPUs the number is 2.

    Args:
        root: of the file system.
    """
    cores = len(usable_cores()) or os.cpu_count() or 1
    quota = min(map(_quota, cgroups(root)), default=inf)
    return cores if quota >= cores else max(1, ceil(quota))


def cgroups(root: Path) -> Iterator[Path]:
    """The folders of the cgroups that limit the CPU time of this process, ancestors included.

    Under cgroup v1 a container may see only a part of the hierarchy: the root of the mount is then
    a prefix of the path of the cgroup.
    """
    try:
        memberships = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return
    paths = {
        controller: PurePosixPath(path)
        for _, controllers, path in (line.split(":", 2) for line in memberships)
        for controller in controllers.split(",")
    }
    for line in mounts:
        left, _, right = line.partition(" - ")
        mount_root, mount_point = left.split()[3:5]
        kind, _, options = right.split(" ")[:3]
        version_1 = kind == "cgroup" and "cpu" in options.split(",")
        path = paths.get("cpu" if version_1 else "")
        if path is None or not (version_1 or kind == "cgroup2"):
            continue
        inside = (
            path.relative_to(mount_root) if path.is_relative_to(mount_root) else PurePosixPath()
        )
        mount = root / mount_point.lstrip("/")
        yield from (mount / part for part in (inside, *inside.parents))


def _quota(cgroup: Path) -> float:
    """The CPU quota of a cgroup, in cores; infinite if it has none."""
    try:
        if (cgroup / "cpu.max").exists():  # v2
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu.cfs_period_us").read_text()
        return inf if quota in UNLIMITED else int(quota) / int(period)
    except (OSError, ValueError):  # the root of a hierarchy has no quota
        return inf
