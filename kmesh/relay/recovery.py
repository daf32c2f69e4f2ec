"""What is left of an exchange whose relay was killed: from its journal and the sockets' own counts to where to go on.

    step           of its planned bytes            the source's first bytes           then
    none           -                               -                                  the framer
    as they are    some were sent                  sent, not taken: to be dropped     the rest of them, the framer
    another head   all were sent, or there is      the head, if not taken: dropped    the framer
                   none to send in its place
                   none was sent                   the head                           as if the head had not come
                   some were sent                  -                                  nobody can tell: it is lost
    by a pipe      some were sent, some in it      -                                  the pipe, the framer

Pure. Nothing says that a request without a body has begun but its head: a request of which nothing was sent is new.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmesh.relay.exchange import Progress
from kmesh.relay.framing import Framer, LengthFramer, restore_framer
from kmesh.relay.journal import DirectionState, Mode, Step
from kmesh.relay.pump import Direction

__all__ = ["Left", "find_left", "join_ways"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Of one direction."""

    framer: Framer | None = None
    """None: the head is still to be read."""
    dropped: int = 0
    """Bytes at the source's beginning that the sink has: take them first."""
    ahead: int = 0
    """Bytes behind them that go on as they are, before the framer's."""
    piped: int = 0


def find_left(was: DirectionState, step: Step) -> Left | None:
    """None: the exchange is lost."""
    framer = restore_framer(was.state)
    match was.mode:
        case Mode.IDLE:
            return Left(framer=framer)
        case Mode.PLANNED:
            return Left(framer=framer, dropped=step.sent - step.took, ahead=was.planned - step.sent)
        case Mode.REPLACING if step.sent == was.planned:
            return Left(framer=framer, dropped=was.length - step.took)
        case Mode.REPLACING if step.sent == 0:
            return Left()
        case Mode.SPLICING:
            return Left(framer=LengthFramer(was.planned - step.took), piped=step.took - step.sent)
        case _:
            return None


def join_ways(request: Left, answer: Left, request_pipe: int | None, answer_pipe: int | None) -> Progress | None:
    """What Client.resume needs, once both sources' dropped bytes are taken; None: nothing of the request was sent."""
    if request.framer is None:
        return None
    pipes = {}
    if request.piped and request_pipe is not None:
        pipes[Direction.REQUEST] = (request_pipe, request.piped)
    if answer.piped and answer_pipe is not None:
        pipes[Direction.ANSWER] = (answer_pipe, answer.piped)
    return Progress(
        request=request.framer,
        request_ahead=request.ahead,
        answer=answer.framer,
        answer_ahead=answer.ahead,
        pipes=pipes,
    )
