"""Owns one request on a connection and its answer: what is still to come of the body, and whether
the connection outlives them.

Knows nothing of the app that answers, nor of what a request may cost.
"""

from asyncio import Transport
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.core.errors import ServiceError
from app.core.scope import Client

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent


class CoalescingTransport:
    """A transport as an answer needs it, which keeps the first bytes until there are more.

    uvicorn writes the head and the body by a call of the system each, and their reader is woken
    twice.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._begun = False

    def write(self, data: bytes) -> None:
        """Send what is not the head, and that before it."""
        if not self._begun:
            self._begun, self._head = True, data
        elif self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data) if data else (head,))
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether the connection is about to end."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End the connection when all is sent that was to be."""
        self._transport.close()


DRAINED = 2**20  # bytes of a body that nobody wants, read so that its sender gets to the answer


class Cycle(RequestResponseCycle):
    """uvicorn's, with an end to a body that goes wrong, and one to an answer that comes early.

    Attributes:
        body_error: what is wrong with the body; whoever reads it is told.
        received: bytes of the body so far.
        lingering: whether the connection ends with the answer, and its sender is still writing.
        client: who waits for the answer.
    """

    client: Client
    body_error: ServiceError | None = None
    received = 0
    lingering = False

    @property
    def declared(self) -> int | None:
        """The bytes of the body by its Content-Length, which the parser has checked."""
        for name, value in self.scope["headers"]:
            if name == b"content-length":
                return int(value)
        return None

    def leave(self) -> None:
        """The caller has left: neither is there more of the body, nor will an answer be taken."""
        self.disconnected = True
        self.message_event.set()
        self.client.on_disconnect()

    def fail(self, body_error: ServiceError) -> None:
        """End the body with an error in place of its rest; the connection ends with the answer."""
        self.body_error = body_error
        self.keep_alive = False
        self.message_event.set()

    async def receive(self) -> "ASGIReceiveEvent":
        """ASGI's.

        Raises:
            ServiceError: the body went wrong.
        """
        message = await super().receive()
        if self.body_error is not None and not self.disconnected:
            self.message_event.set()  # for whoever asks again
            raise self.body_error
        return message

    def send(self, message: "ASGISendEvent") -> Coroutine[Any, Any, None]:
        """ASGI's; an answer before the end of the body settles what becomes of the connection."""
        if message["type"] == "http.response.start" and self.scope["method"] != "HEAD":
            self.transport = CoalescingTransport(self.transport)  # type: ignore[assignment]  # all that is asked
        if self.more_body and not self.response_complete:
            self._send_early(message)
        return super().send(message)

    def _send_early(self, message: "ASGISendEvent") -> None:
        if message["type"] == "http.response.start":
            if not self._rest_is_small():
                self.keep_alive = False
        elif not message.get("more_body", False) and not self.keep_alive:
            self.lingering = True
            self.keep_alive = True  # or uvicorn would close at once, and the answer might be lost

    def _rest_is_small(self) -> bool:
        """Whether reading it costs less than another connection; one who waits may never send."""
        declared = self.declared
        known = declared is not None and not self.waiting_for_100_continue
        return known and declared - self.received <= DRAINED  # type: ignore[operator]  # known
