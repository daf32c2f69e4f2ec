"""What the compiled records make of the requests of a case: the reference interpreter over its routing unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle, product

from kmesh.compiler.interpreter.framing import frame_request
from kmesh.compiler.interpreter.head import Head, read_head
from kmesh.compiler.interpreter.requests import Matched, match_request
from kmesh.compiler.ir import Routing
from kmesh.compiler.reference import Tables
from kmesh.compiler.routes.unit import RoutingUnit, compile_routing, routing_id
from kmesh.maps.image import MapName, merge_tables
from kmesh.records.constants import Handover
from kmesh.records.digest import name_id
from tests.support.route_oracle import CLUSTERS, Answer, Case, decode_case

__all__ = ["NOT_FOUND", "CompiledCase", "Outcome", "agrees_with_envoy"]

NOT_FOUND = (Handover.NO_VIRTUAL_HOST, Handover.NO_ROUTE)
"""The relay answers 404, as Envoy does."""
_NAME = "case"
_CLUSTERS = {name_id("cluster", name): name for name in CLUSTERS}
_DRAWS = tuple(range(1 << 29, 1 << 32, 1 << 30))
"""Two of them, one after the other, meet every share of a weighted choice of two, down to an eighth."""

Outcome = frozenset[str] | Handover
"""The clusters that the request may go to, "" for one that does not exist; or why the relay has it."""


@dataclass(frozen=True, kw_only=True)
class CompiledCase:
    case: Case

    @cached_property
    def unit(self) -> RoutingUnit:
        manager = decode_case(self.case)
        assert manager.route_config
        return compile_routing(
            Routing(name=_NAME, config=manager.route_config, normalization=manager.normalization)
        )

    @cached_property
    def tables(self) -> Tables:
        return merge_tables(fragment for _, fragment in self.unit.fragments)

    def match(self, head: bytes, port: int) -> Outcome:
        """What may become of a request, whatever is drawn."""
        found = set(self._match_each(head, port))
        reasons = {matched.handover for matched in found}
        if reasons == {Handover.NONE}:
            return frozenset(_CLUSTERS.get(matched.cluster, "") for matched in found)
        assert len(reasons) == 1, f"{reasons} by chance"
        return reasons.pop()

    def carry(self, head: bytes, port: int) -> Outcome:
        """Likewise, and FRAMING where it is not plain where the request ends."""
        outcome = self.match(head, port)
        if isinstance(outcome, Handover):
            return outcome
        read = read_head(self.tables[MapName.PAGE], self.unit.head.automaton, head)
        assert isinstance(read, Head), "it was matched"
        return Handover.FRAMING if frame_request(read, head) is Handover.FRAMING else outcome

    def _match_each(self, head: bytes, port: int) -> Iterator[Matched]:
        """Once for each pair of draws; once only where none is asked for."""
        for pair in product(_DRAWS, repeat=2):
            dice = _Dice(numbers=cycle(pair))
            yield match_request(self.tables, routing_id(_NAME), head, port=port, draw=dice, cursors={})
            if not dice.is_used:
                return


@dataclass(slots=True, kw_only=True)
class _Dice:
    numbers: Iterator[int]
    is_used: bool = field(default=False)

    def __call__(self) -> int:
        self.is_used = True
        return next(self.numbers)


def agrees_with_envoy(outcome: Outcome, envoy: Answer) -> bool:
    """A request that is handed over is the relay's to answer, but where the records say that nothing takes it."""
    if isinstance(outcome, frozenset):
        return Answer(status=503 if outcome == {""} else 200, clusters=outcome - {""}).agrees_with(envoy)
    if outcome in NOT_FOUND:
        return Answer(status=404).agrees_with(envoy)
    return outcome is not Handover.BROKEN
