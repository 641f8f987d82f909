"""Starting the process of a replica: the device and the part of it that the replica gets."""

import pytest

from app.core.settings import Settings
from app.replicas import spawn as module
from app.replicas.spawn import Sockets, spawn


@pytest.mark.parametrize(
    ("gpus", "devices", "shares"),
    [
        (1, ["auto"] * 3, [1 / 3] * 3),
        (2, ["cuda:0", "cuda:1", "cuda:0"], [1 / 2, 1, 1 / 2]),
        (3, ["cuda:0", "cuda:1", "cuda:2"], [1] * 3),
    ],
)
def test_replicas_without_a_gpu_of_their_own_share_its_memory(monkeypatch, gpus, devices, shares):
    started = []

    class Process:
        def __init__(self, *, target, args, name) -> None:
            started.append(args)

        def start(self) -> None:
            pass

    monkeypatch.setattr(module, "ReplicaProcess", Process)
    monkeypatch.setattr(module, "gpu_count", lambda: gpus)
    monkeypatch.setattr(module.resource_tracker, "ensure_running", lambda: None)
    for index in range(3):
        spawn(print, Settings(workers=3), Sockets(None, None), None, "folder", index)
    assert [settings.device for settings, _, _ in started] == devices
    assert [replica.gpu_share for _, _, replica in started] == shares
