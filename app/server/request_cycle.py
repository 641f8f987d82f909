"""One request on a connection and its response."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.core.errors import ServiceError
from app.core.scope import Client

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

# rest of a body that is read and discarded after an early response, to keep the connection
MAX_DISCARDED_BYTES = 2**20


class Cycle(RequestResponseCycle):
    """uvicorn's cycle, with errors in bodies and with responses before the end of the body.

    Attributes:
        body_error: what is wrong with the body; reading the body raises it.
        received: bytes of the body received so far.
        lingering: whether the connection closes after the response while the client still sends.
        client: the client that waits for the response.
    """

    client: Client
    body_error: ServiceError | None = None
    received = 0
    lingering = False

    @property
    def content_length(self) -> int | None:
        """The Content-Length in bytes, which the parser has validated, or None."""
        for name, value in self.scope["headers"]:
            if name == b"content-length":
                return int(value)
        return None

    def disconnect(self) -> None:
        """Tell the app that the client has disconnected."""
        self.disconnected = True
        self.message_event.set()
        self.client.on_disconnect()

    def fail_body(self, error: ServiceError) -> None:
        """Raise an error where the app reads the rest of the body, and close after the response."""
        self.body_error = error
        self.keep_alive = False
        self.message_event.set()

    async def receive(self) -> "ASGIReceiveEvent":
        """ASGI's receive.

        Raises:
            ServiceError: the body is invalid or too slow.
        """
        message = await super().receive()
        if self.body_error is not None and not self.disconnected:
            self.message_event.set()  # the next call raises as well
            raise self.body_error
        return message

    def send(self, message: "ASGISendEvent") -> Coroutine[Any, Any, None]:
        """ASGI's send; a response before the end of the body may have to close the connection."""
        if self.more_body and not self.response_complete:
            self._send_early(message)
        return super().send(message)

    def _send_early(self, message: "ASGISendEvent") -> None:
        if message["type"] == "http.response.start":
            if not self._remaining_body_is_small():
                self.keep_alive = False
        elif not message.get("more_body", False) and not self.keep_alive:
            self.lingering = True
            self.keep_alive = True  # uvicorn would close at once, and the client lose the response

    def _remaining_body_is_small(self) -> bool:
        """Whether it is cheaper to discard the rest of the body than to close the connection.

        A client that waits for 100 Continue may never send its body.
        """
        total = self.content_length
        if total is None or self.waiting_for_100_continue:
            return False
        return total - self.received <= MAX_DISCARDED_BYTES
