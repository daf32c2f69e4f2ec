"""What a scenario is: a way from a client to a server. To add one, write a file in scenarios/ and list it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.traffic.routing import ANY_REQUEST, Routing
from benchmarks.traffic.topology import Lane

__all__ = ["Running", "Scenario"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A scenario that is up."""

    target: str
    """The IP address that clients connect to, at the servers' own ports."""
    processes: Mapping[str, int] = field(default_factory=dict)
    """Process ids of the mesh, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    run: Callable[[Lane, Path], AbstractContextManager[Running]]
    """Given its lane and the Unix socket of the ADS server."""
    routing: Routing = ANY_REQUEST
    """Of its HTTP ports."""
    is_http_only: bool = False
    """Other loads would say nothing that another scenario does not."""
    is_enrolled: bool = False
    """Whether its clients run in the cgroup of the pods, where the programs are attached."""
    is_claimed: bool = False
    """Whether the claims are made for it."""
