"""bench.overload: its command line."""

import pytest

from bench import overload


def test_each_network_has_values_of_its_own():
    networks = ["--networks", "T", "ViT-B/16"]
    values = ["--timeout-s", "1", "1.5", "--concurrency", "32", "6"]
    cases = overload.parsed([*networks, *values]).cases
    assert [(each.network, each.timeout_s, each.concurrency) for each in cases] == [
        ("T", 1.0, 32),
        ("ViT-B/16", 1.5, 6),
    ]


def test_one_network_has_one_value_of_each():
    one = ["--networks", "SegFormer-B0", "--timeout-s", "3", "--concurrency", "4"]
    (case,) = overload.parsed(one).cases
    assert (case.network, case.timeout_s, case.concurrency) == ("SegFormer-B0", 3.0, 4)


def test_a_run_can_be_short():
    options = overload.parsed(["--capacity-s", "2", "--calm-s", "3", "--no-repeat"])
    assert (options.capacity_s, options.calm_s, options.repeat) == (2.0, 3.0, False)


@pytest.mark.parametrize(
    "arguments", [["--networks", "T"], ["--timeout-s", "1"], ["--concurrency", "1", "2", "3"]]
)
def test_different_numbers_of_values_are_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        overload.parsed(arguments)
    assert error.value.code == 2
    assert "as many values of --timeout-s and --concurrency as networks" in capsys.readouterr().err
