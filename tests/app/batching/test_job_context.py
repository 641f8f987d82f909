"""The context of a request: its stages as header and as log fields."""

from app.batching.job import RequestContext


def test_the_stages_become_a_server_timing_header():
    context = RequestContext(deadline=1.0, stages={"read": 0.0004, "decode": 1.23456})
    assert context.server_timing() == 'read;dur=0.40, decode;dur=1234.56, batch;desc="0"'
    context.stages["queue"] = 0.0
    context.batch_size = 3
    assert context.server_timing().endswith('queue;dur=0.00, batch;desc="3"')


def test_a_context_starts_at_the_decoder_with_its_own_stages():
    first, second = RequestContext(1.0), RequestContext(2.0)
    first.stages["read"] = 1.0
    assert first.stage == "decode"
    assert second.stages == {}
    assert second.server_timing() == 'batch;desc="0"'


def test_the_log_fields_have_the_stages_in_milliseconds():
    context = RequestContext(deadline=1.0, stages={"decode": 1.23456}, batch_size=2)
    assert context.log_fields() == {"batch_size": 2, "stages_ms": {"decode": 1234.56}}
