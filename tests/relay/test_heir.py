"""What an heir makes of adopted sockets, where no kernel programs are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kmesh.records.constants import AnswerState
from kmesh.relay.adoption import Adopted, AdoptedSocket
from kmesh.relay.channel import Channel, Readiness
from kmesh.relay.client import Client
from kmesh.relay.counters import count_taken, count_written
from kmesh.relay.inheritance import Heir
from kmesh.relay.journal import DirectionState, Identity, Journal, Kind, Mode, SlotView, cookie_of
from kmesh.relay.tasks import Tasks
from kmesh.relay.upstreams import Upstreams
from tests.support.plain_relay import PlainRelay


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(the one that connected, the accepted one)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opener = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with opener, accepted:
        yield opener, accepted


def adopted(journal: Journal, sock: socket.socket, kind: Kind, direction: DirectionState) -> AdoptedSocket:
    identity, slot = Identity(kind=kind, cookie=cookie_of(sock)), journal.slot(sock.fileno())
    slot.open(identity, direction)
    pipe = direction.pipe or None
    was = SlotView(descriptor=0, identity=identity, direction=direction)
    return AdoptedSocket(sock=sock, slot=slot, was=was, pipe=pipe)


def make_heir(tables: SimpleNamespace, **parts: Any) -> Heir:
    """Of these parts; without upstream connections and pools where they are not given."""
    values = {"upstreams": (), "pools": None, "tasks": None, "readiness": None, "add_client": None, **parts}
    return Heir(tables=cast(Any, tables), relay_answer=lambda *_: pytest.fail("there is none"), **values)


@pytest.mark.parametrize("step", ["bytes that are gone", "a part of a head"])
def test_an_exchange_that_cannot_go_on_leaves_nothing(step: str) -> None:
    """Neither a channel in the epoll, nor a pipe, nor a client that is served."""
    read_end, write_end = os.pipe()

    async def run(near: socket.socket, far: socket.socket) -> None:
        journal, readiness, tasks = Journal(), Readiness(), Tasks()
        taken, written = count_taken(near), count_written(far, is_opener=True)
        far.sendall(b"12345")
        mode = Mode.PLANNED if step == "bytes that are gone" else Mode.REPLACING
        was = DirectionState(mode=mode, planned=9, length=7, taken=taken, written=written)
        client = adopted(journal, near, Kind.CLIENT, was)
        answer = DirectionState(sink=cookie_of(near), mode=Mode.SPLICING, pipe=read_end)
        upstream = adopted(journal, far, Kind.RELAYED, answer)
        relay = PlainRelay(("127.0.0.1", 0), lambda _: pytest.fail("it is not served"), readiness)

        def add_client(channel: Channel, found: AdoptedSocket) -> Client:
            return Client(channel, cookie=1, netns=0, routing=0, port=0, surroundings=relay)

        tables = SimpleNamespace(has_upstream=lambda _: False)
        heir = make_heir(tables, tasks=tasks, readiness=readiness, add_client=add_client)
        heir.take(Adopted(clients=[client], relayed=[upstream]))
        assert near.fileno() == far.fileno() == -1
        assert not readiness._channels
        assert not tasks._running
        with pytest.raises(OSError):
            os.fstat(read_end)
        await tasks.close()
        readiness.close()

    with connected() as (_, near), connected() as (far, _):
        asyncio.run(run(near, far))
    os.close(write_end)


def test_a_free_one_that_a_predecessor_marked_dead_is_not_offered() -> None:
    """It is in a queue or in none, and programs pass over it."""

    async def run(far: socket.socket) -> None:
        journal = Journal()
        upstreams = Upstreams(journal, lambda _: pytest.fail("it has not ended"))
        found = adopted(journal, far, Kind.POOLED, DirectionState())
        deleted: list[int] = []
        tables = SimpleNamespace(
            read_upstream=lambda _: SimpleNamespace(client=0, state=AnswerState.DEAD), delete_upstream=deleted.append
        )
        pools = SimpleNamespace(adopt=lambda _: pytest.fail("it is offered"))
        make_heir(tables, upstreams=upstreams, pools=pools).take(Adopted(pooled=[found]))
        assert far.fileno() == -1
        assert deleted == [found.was.identity.cookie]
        assert not len(upstreams)
        upstreams.close()

    with connected() as (far, _):
        asyncio.run(run(far))
