"""Owns that the head of an answer is sent with what follows it: by one call, in one packet.

Knows nothing of what they say.
"""

from asyncio import Transport


class Envelope:
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
