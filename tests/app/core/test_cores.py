import pytest

from app.core.cores import core_count, usable_cores

V2 = "36 25 0:31 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = """\
34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
24 1 0:5 / /proc rw - proc proc rw
40 1 0:40 / /without/a/source rw - tmpfs  rw,size=1m
"""


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Make a root folder with these cgroups and files; the affinity allows eight cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)

    def make(membership, mounts, **files):
        files = {"proc/self/cgroup": membership, "proc/self/mountinfo": mounts} | files
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


def v1(folder, quota, period=100_000):
    folder = f"sys/fs/cgroup/cpu,cpuacct/{folder}"
    return {
        f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}/cpu.cfs_period_us": f"{period}\n",
    }


def test_only_usable_cores_count(monkeypatch, tmp_path):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5, 6}, raising=False)
    assert (usable_cores(), core_count(tmp_path)) == ({0, 5, 6}, 3)


def test_without_affinity_all_cores_count(monkeypatch, tmp_path):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert (usable_cores(), core_count(tmp_path)) == (set(), 7)


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("50000 100000", 1),
        ("150000 100000", 2),
        ("300000 50000", 6),
        ("1600000 100000", 8),
        ("garbage", 8),
    ],
)
def test_a_quota_of_version_2_is_rounded_up_to_cores(system, limit, cores):
    files = {"sys/fs/cgroup/system.slice/it.service/cpu.max": f"{limit}\n"}
    assert core_count(system("0::/system.slice/it.service\n", V2 + OTHER, **files)) == cores


def test_the_smallest_quota_of_the_ancestors_counts(system):
    files = {
        "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/b/c/cpu.max": "400000 100000\n",
        "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
    }
    assert core_count(system("0::/a/b/c\n", V2, **files)) == 2


def test_in_a_namespace_of_its_own_the_quota_is_at_the_root(system):
    assert core_count(system("0::/\n", V2, **{"sys/fs/cgroup/cpu.max": "250000 100000"})) == 3


@pytest.mark.parametrize(("quota", "cores"), [(-1, 8), (50_000, 1), (250_000, 3)])
def test_a_quota_of_version_1_is_found_beside_other_controllers(system, quota, cores):
    membership = "9:cpuset:/\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/\n0::/\n"
    root = system(membership, OTHER + V1.format(root="/"), **v1("docker/1", quota))
    assert core_count(root) == cores


def test_a_container_that_sees_a_part_of_the_hierarchy_finds_its_quota(system):
    membership = "4:cpu,cpuacct:/docker/1/inner\n"
    root = system(membership, V1.format(root="/docker/1"), **v1("", 200_000), **v1("inner", -1))
    assert core_count(root) == 2


def test_a_container_whose_mount_is_of_another_cgroup_reads_the_mount(system):
    mounts = V1.format(root="/docker/1")
    assert core_count(system("4:cpu,cpuacct:/\n", mounts, **v1("", 100_000))) == 1
