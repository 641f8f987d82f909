import os
import signal

import pytest

from bench.common.sigterm import exit_on_sigterm


def test_sigterm_exits_through_finally_blocks_and_a_second_one_is_ignored():
    before, cleaned = signal.getsignal(signal.SIGTERM), []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)

    with pytest.raises(SystemExit) as raised, exit_on_sigterm():
        work()
    assert raised.value.code == 128 + signal.SIGTERM
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) == before
