"""The private and undocumented parts of uvicorn and httptools that the service uses."""

import ast
import asyncio
import inspect
import re
import textwrap
import tomllib
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httptools
import pytest
import uvicorn
import uvicorn._types
from uvicorn.config import Config
from uvicorn.lifespan.off import LifespanOff
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.replicas.server import ReplicaServer
from app.server.ops import OpsServer
from app.server.protocol import HttpProtocol
from app.server.request_cycle import Cycle
from app.server.server import GracefulServer

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]

CONNECTION = "app/server/parsing.py, app/server/protocol.py and app/server/request_cycle.py"
SERVER = "app/server/server.py, app/server/ops.py, app/replicas/server.py and app/cli/run.py"
HTTPTOOLS_IMPL = "uvicorn/protocols/http/httptools_impl.py"
ADVICE = """
{part} is not what the service relies on any more (uvicorn {uvicorn}, httptools {httptools}).
It is used by {users}. To accept this version:
1. compare these files with the new {source};
2. adapt them, and the list of parts in this test;
3. raise the bound of uvicorn in pyproject.toml and the version in constraints.txt."""


@contextmanager
def relied_on(part, users, source):
    """Fail with advice for a maintainer where a part of uvicorn or httptools has changed."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # whatever a changed part raises
        versions = {name: version(name) for name in ("uvicorn", "httptools")}
        advice = ADVICE.format(part=part, users=users, source=source, **versions)
        pytest.fail(f"{error!r}{advice}")


def parameters(function):
    return list(inspect.signature(function).parameters)


SIGNATURES = {
    # overridden or called by app/server/protocol.py; shutdown is called by the servers
    HttpToolsProtocol: {
        "__init__": "self config server_state app_state _loop",
        "connection_made": "self transport",
        "connection_lost": "self exc",
        "data_received": "self data",
        "on_message_begin": "self",
        "on_url": "self url",
        "on_header": "self name value",
        "on_headers_complete": "self",
        "on_body": "self body",
        "on_message_complete": "self",
        "on_response_complete": "self",
        "_start_asgi_task": "self cycle app",
        "shutdown": "self",
    },
    FlowControl: {"pause_reading": "self", "resume_reading": "self"},
    # called by app/server/protocol.py, overridden by app/server/request_cycle.py
    RequestResponseCycle: {
        "__init__": "self scope transport flow logger access_logger access_log default_headers"
        " message_event expect_100_continue keep_alive on_response",
        "receive": "self",
        "send": "self message",
        "run_asgi": "self app",
    },
    # overridden or called by the servers
    uvicorn.Server: {
        "run": "self sockets",
        "capture_signals": "self",
        "startup": "self sockets",
        "main_loop": "self",
        "on_tick": "self counter",
        "handle_exit": "self sig frame",
        "shutdown": "self sockets",
    },
    LifespanOn: {"shutdown": "self"},
}

# what the methods of a class of ours use of `self` that is uvicorn's
USED = {
    HttpProtocol: "access_log access_logger app app_state cycle expect_100_continue"
    " flow headers logger loop parser root_path scope server_state timeout_keep_alive transport"
    " _start_asgi_task",
    Cycle: "disconnected keep_alive message_event more_body response_complete scope"
    " waiting_for_100_continue",
    GracefulServer: "config lifespan server_state servers should_exit",
    OpsServer: "lifespan main_loop server_state servers startup",
    ReplicaServer: "server_state",
}
# what other classes and app/cli/run.py use of an object that is uvicorn's
USED_FROM_OUTSIDE = {
    HttpProtocol: "connections cycle scope shutdown transport",
    Cycle: "body message_event more_body response_complete scope waiting_for_100_continue",
    GracefulServer: "run should_exit started",
    OpsServer: "should_exit",
    ReplicaServer: "",
}


class Transport(asyncio.Transport):
    """A transport that records calls."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def write(self, data):
        self.calls.append("write")

    def is_closing(self):
        self.calls.append("is_closing")
        return False

    def close(self):
        self.calls.append("close")

    def pause_reading(self):
        self.calls.append("pause_reading")

    def resume_reading(self):
        self.calls.append("resume_reading")


async def app(scope, receive, send):
    """Read one message, and respond."""
    await receive()
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def config(**options):
    return Config(app, log_config=None, ws="none", lifespan="off", **options)


def connected():
    """uvicorn's own protocol with a fake transport."""
    protocol = HttpToolsProtocol(config(), ServerState(), {"key": "value"})
    protocol.connection_made(Transport())
    return protocol


def cycle(**changes):
    """uvicorn's own cycle with a fake transport."""
    transport = Transport()
    arguments = dict.fromkeys(parameters(RequestResponseCycle.__init__)[1:])
    arguments |= {
        "scope": {"type": "http", "method": "POST", "headers": []},
        "transport": transport,
        "flow": FlowControl(transport),
        "default_headers": [],
        "message_event": asyncio.Event(),
        "on_response": lambda: transport.calls.append("on_response"),
        "keep_alive": True,
    }
    return RequestResponseCycle(**arguments | changes)


def instance(ours):
    """An instance of the class of uvicorn that a class of ours extends."""
    if ours is HttpProtocol:
        return connected()
    if ours is Cycle:
        return cycle()
    server = uvicorn.Server(config())
    server.lifespan, server.servers = None, []  # `_serve` and `startup` set these
    return server


def classes_of(ours):
    """A class, and the classes of ours that it extends and that have no list of their own."""
    parents = [each for each in ours.__mro__[1:] if each.__module__.startswith("app.")]
    return [ours, *(each for each in parents if each not in USED)]


def attributes_used(ours):
    """The attributes of `self` in the source of a class of ours."""
    source = "\n".join(textwrap.dedent(inspect.getsource(each)) for each in classes_of(ours))
    attributes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return {each.attr for each in attributes if ast.unparse(each.value) == "self"}


def source_of(theirs):
    return inspect.getsourcefile(theirs).partition("site-packages/")[2]


@pytest.mark.parametrize("theirs", SIGNATURES)
def test_signatures(theirs):
    source = source_of(theirs)
    users = CONNECTION if "protocols" in source else SERVER
    for name, expected in SIGNATURES[theirs].items():
        with relied_on(f"the signature of {theirs.__name__}.{name}", users, source):
            assert parameters(getattr(theirs, name)) == expected.split()


@pytest.mark.parametrize("ours", USED)
async def test_attributes(ours):
    theirs = instance(ours)
    users = ours.__module__.replace(".", "/") + ".py"
    for name in f"{USED[ours]} {USED_FROM_OUTSIDE[ours]}".split():
        with relied_on(f"{type(theirs).__name__}.{name}", users, source_of(type(theirs))):
            assert hasattr(theirs, name)


@pytest.mark.parametrize("ours", USED)
async def test_the_list_of_attributes_is_complete(ours):
    theirs = instance(ours)
    used = {name for name in attributes_used(ours) if hasattr(theirs, name)}
    for each in classes_of(ours):
        used -= vars(each).keys()
    assert used == set(USED[ours].split()), "correct the list USED"


def test_types():
    with relied_on("uvicorn._types", CONNECTION, "uvicorn/_types.py"):
        assert {"ASGIReceiveEvent", "ASGISendEvent", "HTTPScope"} <= vars(uvicorn._types).keys()


async def test_a_connection_is_counted_while_it_is_open():
    protocol = connected()
    with relied_on("HttpToolsProtocol.connections", f"{CONNECTION}, {SERVER}", HTTPTOOLS_IMPL):
        assert protocol.connections is protocol.server_state.connections == {protocol}
        assert protocol.cycle is protocol.scope is None
        protocol.connection_lost(None)
        assert protocol.connections == set()
        assert protocol.parser is None


async def test_on_message_begin_makes_a_new_scope():
    protocol = connected()
    with relied_on("HttpToolsProtocol.on_message_begin", CONNECTION, HTTPTOOLS_IMPL):
        protocol.on_message_begin()
        assert protocol.scope["headers"] is protocol.headers
        assert (protocol.headers, protocol.url, protocol.expect_100_continue) == ([], b"", False)
        assert protocol.scope["state"] == {"key": "value"}
        assert protocol.scope["state"] is not protocol.app_state


async def test_start_asgi_task_runs_the_app_in_a_counted_task():
    protocol, running = connected(), cycle(logger=None, access_log=False)
    running.message_event.set()
    with relied_on("HttpToolsProtocol._start_asgi_task", f"{CONNECTION}, {SERVER}", HTTPTOOLS_IMPL):
        protocol._start_asgi_task(running, app)
        (task,) = protocol.server_state.tasks
        await task
        await asyncio.sleep(0)
        assert running.response_complete
        assert protocol.server_state.tasks == set()
        assert protocol.timeout_keep_alive_task is None  # a timer of uvicorn's would run twice


async def test_pausing_and_resuming_reading_reach_the_transport_once():
    flow = connected().flow
    with relied_on("FlowControl", CONNECTION, "uvicorn/protocols/http/flow_control.py"):
        for change in (flow.pause_reading, flow.resume_reading):
            change()
            change()
        assert flow._transport.calls == ["pause_reading", "resume_reading"]
        assert not flow.read_paused


async def test_receive_returns_the_body_as_it_is_and_empties_it():
    reading = cycle()
    with relied_on("RequestResponseCycle.receive", CONNECTION, HTTPTOOLS_IMPL):
        reading.body = body = b"a body as bytes, where uvicorn keeps a bytearray"
        reading.message_event.set()
        message = await reading.receive()
        assert message["body"] is body
        assert message["more_body"]
        assert not reading.body
        assert isinstance(reading.body, bytearray)
        assert not reading.message_event.is_set()
        reading.disconnected = True
        assert await reading.receive() == {"type": "http.disconnect"}


async def test_receive_sends_100_continue():
    waiting = cycle(expect_100_continue=True)
    with relied_on("RequestResponseCycle.waiting_for_100_continue", CONNECTION, HTTPTOOLS_IMPL):
        waiting.message_event.set()
        await waiting.receive()
        assert waiting.transport.calls == ["is_closing", "write"]
        assert not waiting.waiting_for_100_continue


async def test_a_protocol_may_be_a_callable_and_a_lifespan_has_a_state():
    with relied_on("Config.load", SERVER, "uvicorn/config.py"):
        loaded = config(http=connected)
        loaded.load()
        assert loaded.http_protocol_class is connected
        assert loaded.lifespan_class is LifespanOff
        assert LifespanOff(loaded).state == LifespanOn(config()).state == {}


async def test_a_server_starts_without_sockets_and_replaces_its_default_headers():
    server = uvicorn.Server(config())
    server.config.load()
    server.lifespan = LifespanOff(server.config)
    with relied_on("uvicorn.Server", SERVER, "uvicorn/server.py"):
        await server.startup(sockets=[])
        assert (server.servers, server.started) == ([], True)
        before = server.server_state.default_headers
        assert await server.on_tick(0) is False
        assert server.server_state.default_headers is not before
        assert [name for name, _ in server.server_state.default_headers] == [b"date", b"server"]
        kept = server.server_state.default_headers
        assert await server.on_tick(1) is False
        assert server.server_state.default_headers is kept
        assert server.server_state.total_requests == 0
        server.should_exit = True
        await server.main_loop()


def test_a_failed_lifespan_exits():
    async def failing(scope, receive, send):
        raise ValueError

    with relied_on("uvicorn.Server.run", SERVER, "uvicorn/server.py"):
        server = uvicorn.Server(Config(failing, log_config=None, ws="none", lifespan="on"))
        with pytest.raises(SystemExit):
            server.run()
        assert not server.started


class Callbacks:
    """The callbacks of a parser, one of which may raise."""

    def __init__(self, error=None):
        self.error = error
        self.found = []

    def on_url(self, url):
        self.found.append(url)
        if self.error:
            raise self.error

    def on_header(self, name, value):
        self.found.append((name, value))

    def on_body(self, body):
        self.found.append(body)


def test_the_parser():
    callbacks = Callbacks()
    with relied_on("httptools.HttpRequestParser", CONNECTION, "httptools/parser/parser.pyx"):
        parser = httptools.HttpRequestParser(callbacks)
        parser.set_dangerous_leniencies(lenient_data_after_close=False)
        parser.feed_data(b"PUT /a?b HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
        assert callbacks.found == [b"/a?b", (b"Content-Length", b"1"), b"x"]
        assert (parser.get_method(), parser.get_http_version()) == (b"PUT", "1.0")
        assert not parser.should_keep_alive()
        assert not parser.should_upgrade()
        url = httptools.parse_url(b"/a?b")
        assert (url.path, url.query) == (b"/a", b"b")


def test_the_parser_ends_at_an_upgrade_with_the_offset():
    with relied_on("httptools.HttpParserUpgrade", CONNECTION, "httptools/parser/parser.pyx"):
        parser = httptools.HttpRequestParser(Callbacks())
        data = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
        with pytest.raises(httptools.HttpParserUpgrade) as raised:
            parser.feed_data(data + b"rest")
        assert raised.value.args[0] == len(data)
        assert parser.should_upgrade()


def test_errors_of_the_parser_have_one_base():
    with relied_on("httptools' errors", CONNECTION, "httptools/parser/errors.py"):
        parser = httptools.HttpRequestParser(Callbacks(KeyError()))
        with pytest.raises(httptools.HttpParserError):
            parser.feed_data(b"GET / HTTP/1.1\r\n\r\n")
        assert not issubclass(httptools.HttpParserUpgrade, httptools.HttpParserError)
        with pytest.raises(httptools.HttpParserInvalidURLError):
            httptools.parse_url(b"")


def test_the_requirement_excludes_the_next_minor_release_of_uvicorn():
    pinned = re.search(r"^uvicorn==(\d+)\.(\d+)", (ROOT / "constraints.txt").read_text(), re.M)
    major, minor = map(int, pinned.groups())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = [each for each in project["dependencies"] if each.startswith("uvicorn")]
    assert requirement.endswith(f",<{major}.{minor + 1}")
