"""Broken or hostile checkpoints end the real process with 3 and one line, in little memory.

The memory of the process is limited, so a checkpoint that inflates ends it in another way.
"""

import json
import os
import pickle
import resource
import shutil
import subprocess
import zipfile

import pytest

from models.checkpoint import bundled, load, save

ADDRESS_SPACE = 6 * 2**30  # bytes; torch with its threads and both models takes 3


def changed(name, **fields):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def zip_bomb(folder):
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
        with file.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(2**9):
                member.write(bytes(2**20))


def pipe(name):
    def replace(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return replace


def endless_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/dev/zero")


def sparse_weights(folder):
    os.truncate(folder / "model.safetensors", 2**31)


def huge_header(folder):
    header = (
        b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'
    )
    content = len(header).to_bytes(8, "little") + header + bytes(100)
    (folder / "model.safetensors").write_bytes(content)


def header_longer_than_the_file(folder):
    (folder / "model.safetensors").write_bytes((2**40).to_bytes(8, "little") + bytes(100))


def deep_json(folder):
    (folder / "config.json").write_text('{"a": ' + "[" * 10**6)


def long_json(folder):
    (folder / "config.json").write_text('{"depths": [' + "1, " * 10**7 + "1]}")


def weights_that_are_not_finite(folder):
    loaded = load(folder)
    loaded.network.positions.data[0, 3, 5] = float("nan")
    save(loaded, folder)


CASES = [
    (changed("config.json", num_hidden_layers=3000), "num_hidden_layers is 3000, not an integer"),
    (changed("config.json", hidden_size=10**6), "hidden_size is 1000000"),
    (changed("preprocessor_config.json", size=10**6), "size is 1000000, but at most"),
    (zip_bomb, "pytorch_model.bin cannot be read: it is compressed"),
    (pipe("config.json"), "config.json cannot be read: it is not a regular file"),
    (pipe("preprocessor_config.json"), "it is not a regular file"),
    (endless_weights, "model.safetensors cannot be read: it is not a regular file"),
    (sparse_weights, "model.safetensors cannot be read: "),
    (huge_header, "model.safetensors cannot be read: "),
    (header_longer_than_the_file, "model.safetensors cannot be read: "),
    (deep_json, "config.json cannot be read: "),
    (long_json, "config.json has more than"),
    (weights_that_are_not_finite, "the network's output is not finite in float32"),
]
FAST = (zip_bomb, weights_that_are_not_finite)  # run by default; modules test the other ones


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="memory cannot be limited")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(*case, marks=() if case[0] in FAST else pytest.mark.slow, id=str(number))
        for number, case in enumerate(CASES)
    ],
)
def test_a_hostile_checkpoint_ends_the_process_with_3_and_one_line(
    serve_command, tmp_path, spoil, message
):
    shutil.copytree(bundled("classify"), tmp_path / "odd")
    spoil(tmp_path / "odd")
    flags = ("--classifier", tmp_path / "odd", "--segmenter", "none", "--port", 0)
    command, environment = serve_command(*flags)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))

    ended = subprocess.run(
        command, env=environment, preexec_fn=limit, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr.count("patchserve: ") == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("patchserve: cannot load: ")
    assert message in last
    assert "Traceback" not in ended.stderr
