import pytest

from app.cli.run import connection_counts


@pytest.mark.parametrize(
    ("most", "files", "counts"),
    [
        (2048, 4096, (2048, 256)),
        (100, 396, (100, 256)),
        (2048, 1024, (492, 246)),
        (2048, 64, (12, 6)),
        (10, 64, (10, 6)),
        (2048, 20, (1, 1)),
    ],
)
def test_with_few_open_files_fewer_connections_are_served_and_some_are_left_to_refuse(
    most, files, counts
):
    assert connection_counts(most, files) == counts
