"""What a client sends, read ahead of the work for it, so that its leaving is noticed at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, final

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

MAX_AHEAD: Final = 2**20
"""How many characters of messages wait; while there are more, nothing is read."""


@final
class Inbox:
    """The messages of a client that nobody has taken yet."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._messages, self._num_chars = deque[Message](), 0
        self._changed = asyncio.Condition()

    async def fill(self) -> None:
        """Read until the client leaves."""
        is_there = True
        while is_there:
            message = await self._websocket.receive()
            is_there = message["type"] != "websocket.disconnect"
            async with self._changed:
                self._messages.append(message)
                self._num_chars += _size(message)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._num_chars <= MAX_AHEAD)

    async def take(self) -> Message:
        """Return the next message.

        :raises WebSocketDisconnect: the client has left, whatever it sent before.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._messages)
            last = self._messages[-1]
            if last["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(last.get("code", 1000))
            message = self._messages.popleft()
            self._num_chars -= _size(message)
            self._changed.notify_all()
            return message


def _size(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or "")
