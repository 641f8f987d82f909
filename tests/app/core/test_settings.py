"""Settings: sources, bounds, and other variables with the same prefix."""

import pickle
import re

import pytest
from pydantic import ValidationError

from app.core.settings import PREFIX, Settings

KUBERNETES = {  # variables that it sets for Services named patchserve and patchserve-gpu
    "PATCHSERVE_SERVICE_HOST": "10.0.0.1",
    "PATCHSERVE_SERVICE_PORT": "8000",
    "PATCHSERVE_SERVICE_PORT_HTTP": "8000",
    "PATCHSERVE_PORT": "tcp://10.0.0.1:8000",
    "PATCHSERVE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "PATCHSERVE_PORT_8000_TCP_PROTO": "tcp",
    "PATCHSERVE_PORT_8000_TCP_PORT": "8000",
    "PATCHSERVE_PORT_8000_TCP_ADDR": "10.0.0.1",
    "PATCHSERVE_GPU_SERVICE_HOST": "10.0.0.2",
    "PATCHSERVE_GPU_PORT": "udp://10.0.0.2:9000",
    "PATCHSERVE_GPU_PORT_9000_UDP_ADDR": "10.0.0.2",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_the_defaults_are_for_one_machine():
    settings = Settings.read()
    assert (settings.classifier, settings.segmenter) == ("bundled", "bundled")
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.device == "auto"
    assert settings.max_body_bytes == 20 * 2**20
    assert settings.max_image_pixels == 50_000_000


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())


def test_a_flag_wins_over_a_variable(monkeypatch):
    monkeypatch.setenv("PATCHSERVE_MAX_QUEUE_SIZE", "12")
    monkeypatch.setenv("PATCHSERVE_HOST", "0.0.0.0")  # noqa: S104  # the value is not used
    assert Settings.read().max_queue_size == 12
    assert Settings.read(max_queue_size="13").max_queue_size == 13
    assert Settings.read(max_queue_size="13").host == "0.0.0.0"  # noqa: S104  # likewise


def test_flags_are_texts():
    settings = Settings.read(request_timeout_s="2.5", device="cuda:1", port="0", segmenter="none")
    assert (settings.request_timeout_s, settings.device) == (2.5, "cuda:1")
    assert (settings.port, settings.segmenter) == (0, "none")


def test_settings_are_immutable():
    with pytest.raises(ValidationError, match="frozen"):
        Settings.read().port = 1


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("max_batch_size", 1, 1024),
        ("max_queue_delay_ms", 0, 1000),
        ("max_queue_size", 1, 65536),
        ("request_timeout_s", 0.001, 3600),
        ("max_body_bytes", 1, 2**28),
        ("max_body_bytes_in_flight", 20 * 2**20, 2**40),
        ("upload_timeout_s", 0.001, 3600),
        ("min_upload_bytes_per_s", 0, 2**30),
        ("max_header_bytes", 1024, 2**20),
        ("header_timeout_s", 0.001, 3600),
        ("max_connections", 1, 10**6),
        ("max_image_pixels", 1, 200_000_000),
        ("max_decoded_pixels", 50_000_000, 10**12),
        ("port", 0, 65535),
    ],
)
def test_numbers_have_bounds(name, low, high):
    for value in (low, high):
        assert getattr(Settings.read(**{name: str(value)}), name) == value
    for value in (low - 1, high + 1, "nan", "inf", "many", ""):
        with pytest.raises(ValueError, match=name):
            Settings.read(**{name: str(value)})


@pytest.mark.parametrize("name", ["max_batch_size", "port"])
def test_a_variable_out_of_bounds_is_refused_with_its_name(monkeypatch, name):
    monkeypatch.setenv(PREFIX + name.upper(), "-1")
    with pytest.raises(ValueError, match=name):
        Settings.read()


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:0 ", "CPU", "mps", ""])
def test_only_auto_cpu_and_cuda_are_devices(device):
    assert Settings.read(device="cuda").device == "cuda"
    with pytest.raises(ValueError, match="device"):
        Settings.read(device=device)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("dtype", "bfloat16", "int8"),
        ("jpeg_decode", "scaled", "fast"),
        ("log_level", "debug", "verbose"),
    ],
)
def test_only_listed_words_are_accepted(name, good, bad):
    assert getattr(Settings.read(**{name: good}), name) == good
    with pytest.raises(ValueError, match=name):
        Settings.read(**{name: bad})


def test_the_decoding_limit_must_allow_the_largest_image():
    both = {"max_image_pixels": "300000000", "max_decoded_pixels": "300000000"}
    assert Settings.read(**both).max_decoded_pixels == 300_000_000
    message = "max_decoded_pixels\n.*must be at least max_image_pixels, which is 300000000"
    with pytest.raises(ValueError, match=message):
        Settings.read(max_image_pixels="300000000")


def test_the_upload_limit_must_allow_the_largest_body():
    both = {"max_body_bytes": "300000000", "max_body_bytes_in_flight": "300000000"}
    assert Settings.read(**both).max_body_bytes_in_flight == 300_000_000
    message = "max_body_bytes_in_flight\n.*must be at least max_body_bytes, which is 300000000"
    with pytest.raises(ValueError, match=message):
        Settings.read(max_body_bytes="300000000")


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("image_formats", "PNG, jpeg,png", "png,jpeg"),
        ("image_formats", "jpeg,AVIF,heic", "jpeg,avif,heic"),
        ("cors_origins", "*", "*"),
        (
            "cors_origins",
            " https://a.example, http://[::1]:3000 ",
            "https://a.example,http://[::1]:3000",
        ),
    ],
)
def test_lists_are_separated_by_commas(name, text, kept):
    assert getattr(Settings.read(**{name: text}), name) == kept


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("image_formats", ""),
        ("image_formats", ","),
        ("image_formats", "jpeg,jxl"),
        ("cors_origins", "a.example"),
        ("cors_origins", "https://a.example/"),
        ("cors_origins", "https://a.example/path"),
        ("cors_origins", "*,https://a.example"),
        ("cors_origins", "null"),
    ],
)
def test_lists_with_unknown_words_are_refused(name, text):
    with pytest.raises(ValueError, match=name):
        Settings.read(**{name: text})


KEY = "a-key-of-the-tests-0"


@pytest.mark.parametrize("proxy", ["10.0.0.0/8", "::1", "192.0.2.7, 2001:db8::/32"])
def test_proxies_are_addresses_or_networks(proxy):
    assert Settings.read(trusted_proxies=proxy).trusted_proxies == proxy.replace(" ", "")


@pytest.mark.parametrize("proxy", ["nginx", "10.0.0.1/8", "10.0.0", "*"])
def test_other_proxies_are_refused(proxy):
    with pytest.raises(ValueError, match="trusted_proxies"):
        Settings.read(trusted_proxies=proxy)


def test_keys_are_read_from_the_environment_and_a_file(monkeypatch, tmp_path):
    (tmp_path / "keys").write_text(f"# ours\n{KEY}\nof-the-file-alone-1\n")
    monkeypatch.setenv("PATCHSERVE_API_KEYS", f"of-the-environment-2, {KEY}")
    settings = Settings.read(api_keys_file=str(tmp_path / "keys"))
    assert settings.keys == ("of-the-environment-2", KEY, "of-the-file-alone-1")
    (tmp_path / "keys").unlink()
    assert pickle.loads(pickle.dumps(settings)).keys == settings.keys  # noqa: S301  # our own


@pytest.mark.parametrize("text", ["", None])
def test_without_keys_the_list_is_empty(monkeypatch, text):
    if text is not None:
        monkeypatch.setenv("PATCHSERVE_API_KEYS", text)
    assert Settings.read().keys == ()


def test_a_key_is_never_shown(monkeypatch):
    monkeypatch.setenv("PATCHSERVE_API_KEYS", KEY)
    settings = Settings.read()
    assert (
        KEY not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    )
    monkeypatch.setenv("PATCHSERVE_API_KEYS", "a-bad-one")
    with pytest.raises(ValueError, match="api_keys") as refused:
        Settings.read()
    assert "a-bad-one" not in str(refused.value)


def test_a_secret_has_no_flag():
    assert "api_keys" not in Settings.flags()
    assert "api_keys_file" in Settings.flags()


def test_unknown_variables_are_refused_and_named(monkeypatch):
    monkeypatch.setenv("PATCHSERVE_PROT", "8000")
    monkeypatch.setenv("patchserve_max_batch", "8")
    message = "unknown settings: PATCHSERVE_MAX_BATCH, PATCHSERVE_PROT"
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        Settings.read()


def test_unknown_flags_are_refused_and_named():
    with pytest.raises(ValueError, match="prot"):
        Settings.read(prot="8000")


def test_variables_that_kubernetes_injects_are_ignored(monkeypatch):
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    assert Settings.read() == Settings()
    assert Settings.read().port == 8000
    assert Settings.read(port="9000").port == 9000


def test_our_own_variables_count_beside_injected_ones(monkeypatch):
    for name, value in (KUBERNETES | {"PATCHSERVE_PORT": "9000"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATCHSERVE_MAX_QUEUE_SIZE", "12")
    assert (Settings.read().port, Settings.read().max_queue_size) == (9000, 12)


def test_variables_of_other_programs_are_ignored(monkeypatch):
    monkeypatch.setenv("MY_PATCHSERVE_PROT", "1")
    monkeypatch.setenv("PORT", "1")
    assert Settings.read().port == 8000


def test_a_dot_env_file_is_not_read(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("PATCHSERVE_PORT=1\n")
    monkeypatch.chdir(tmp_path)
    assert Settings.read().port == 8000


@pytest.mark.parametrize("prefix", ["vision", "/vision/", "/", "//x", "/a b", '/"', "/é"])
def test_a_path_prefix_that_is_no_plain_path_is_refused(prefix):
    with pytest.raises(ValueError, match="must be a path such as /vision"):
        Settings(root_path=prefix)


@pytest.mark.parametrize("prefix", ["", "/vision", "/a/b-c_d.e~f"])
def test_a_plain_path_prefix_is_accepted(prefix):
    assert Settings(root_path=prefix).root_path == prefix


def test_a_folder_of_samples_needs_an_image(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        Settings(samples=str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="there is no image in the folder"):
        Settings(samples=str(tmp_path))
    (tmp_path / "photo.JPG").touch()
    assert Settings(samples=str(tmp_path)).samples == str(tmp_path)


@pytest.mark.parametrize("name", ["classifier_labels", "segmenter_labels"])
def test_a_labels_file_must_exist(tmp_path, name):
    for path in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(ValueError, match=f"there is no file {path}"):
            Settings.read(**{name: str(path)})
    (tmp_path / "labels.txt").touch()
    path = str(tmp_path / "labels.txt")
    assert getattr(Settings.read(**{name: path}), name) == path


def test_strict_and_the_architecture_are_settings_with_variables(monkeypatch):
    assert (Settings.read().strict, Settings.read().arch) == (False, "")
    monkeypatch.setenv("PATCHSERVE_STRICT", "true")
    monkeypatch.setenv("PATCHSERVE_ARCH", "vit_b_16")
    assert (Settings.read().strict, Settings.read().arch) == (True, "vit_b_16")
    assert not Settings.read(strict=False).strict
