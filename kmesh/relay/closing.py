"""Clients' connections that are to end behind what programs gave them.

What is redirected to a client lies for a moment where its recv() does not look, and the FIN of a relay that closes
then would be read first. So before the relay closes, every program that may have given something has ended (a fence),
and the kernel's own queues say that it is delivered (km_delivered.c).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from kmesh.records.constants import Delivery
from kmesh.relay.tasks import Tasks

__all__ = ["Closing"]

_MOMENT_S = 0.005


class _Client(Protocol):
    cookie: int
    has_ended: bool
    is_closed: bool

    def finish(self) -> None:
        """Send the end of the stream, and close when the client has."""

    def reset(self) -> None: ...


class Closing:
    """`delivery` is that of a client's cookie; `fence` waits until runs of programs that began before have ended."""

    def __init__(
        self, tasks: Tasks, delivery: Callable[[int], Delivery], fence: Callable[[], Awaitable[None]]
    ) -> None:
        self._tasks, self._delivery, self._fence = tasks, delivery, fence
        self._noted: dict[int, _Client] = {}
        self._is_running = False

    def note(self, client: _Client) -> None:
        """Nothing more is given to it. It was among the programs' clients: they gave it an answer."""
        if not self._is_settled(client, self._delivery(client.cookie)):
            self._noted[client.cookie] = client
        if self._noted and not self._is_running:
            self._is_running = True
            self._tasks.start(self._run())

    async def _run(self) -> None:
        try:
            while self._noted:
                noted, self._noted = self._noted, {}
                await asyncio.sleep(_MOMENT_S)
                await self._finish([client for client in noted.values() if not client.is_closed])
        finally:
            self._is_running = False

    async def _finish(self, clients: list[_Client]) -> None:
        if not clients:
            return
        await self._fence()
        for client in clients:
            delivery = self._delivery(client.cookie)
            if delivery is Delivery.DONE:
                client.finish()
            elif not self._is_settled(client, delivery):
                self._noted[client.cookie] = client

    def _is_settled(self, client: _Client, delivery: Delivery) -> bool:
        """One that is gone wants no more: its process closed the socket. Its stream's end comes behind what programs
        do at it, and may not be here. When it is, a reset takes nothing from anyone, and leaves no TIME_WAIT: that
        would keep a port of the client's, which had to close first where a server would have."""
        if delivery is Delivery.GONE and client.has_ended:
            client.reset()
        return delivery is Delivery.GONE
