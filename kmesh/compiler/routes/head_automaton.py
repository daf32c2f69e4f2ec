r"""The automaton that reads heads of requests: HTTP/1.1's grammar, strictly, and the names that routes look at.

    state             byte                      event                      next state
    METHOD            of a method               -                          its next byte
                      space behind it           METHOD                     TARGET
    TARGET            /                         TARGET                     SEGMENT
    SEGMENT, PATH     /                         MARK (SEGMENT), -          SEGMENT
                      another                   MARK, -                    PATH
                      ?                         PATH                       PARAMETER
    PARAMETER         of a name                 -                          its next byte
                      = behind a known name     NAME                       PARAMETER_VALUE
                      & behind a known name     BARE                       PARAMETER
                      & behind another          -                          PARAMETER
                      another                   -                          OTHER_PARAMETER
    PARAMETER_VALUE   &                         VALUE_END                  PARAMETER
                      another                   -                          PARAMETER_VALUE
    OTHER_PARAMETER   &                         -                          PARAMETER
                      another                   -                          OTHER_PARAMETER
    from SEGMENT      space                     TARGET_END, and as for &   VERSION
    VERSION           of HTTP/1.1               -                          its next byte
                      CR behind it              -                          LINE_END
    LINE_END          LF                        -                          LINE
    LINE              of a name                 -                          its next byte
                      : behind a known name     NAME                       BLANK
                      : behind another          SKIP                       OTHER_VALUE
                      another                   -                          OTHER_NAME
                      CR                        -                          HEAD_END
    OTHER_NAME        :                         SKIP                       OTHER_VALUE
                      another                   -                          OTHER_NAME
    BLANK             space, tab                -                          BLANK
                      CR                        EMPTY                      LINE_END
                      another                   VALUE                      VALUE
    VALUE             tab                       SKIP                       VALUE
                      CR                        VALUE_END                  LINE_END
                      another                   -                          VALUE
    OTHER_VALUE       tab                       SKIP                       OTHER_VALUE
                      CR                        -                          LINE_END
                      another                   -                          OTHER_VALUE
    HEAD_END          LF                        HEAD_END                   (none)

METHOD, PARAMETER, VERSION and LINE are the roots of tries, of whose nodes those of known names have the field's id
as their output. "Another" are the bytes that the grammar allows there; all others hand over, most as MALFORMED.

Source: RFC 9112 sections 2 to 5, RFC 9110 section 5; docs/decisions/0008-request-matching.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, auto

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.classes import make_classes
from kmesh.compiler.automata.dfa import make_row
from kmesh.compiler.automata.machine import Machine, make_word
from kmesh.compiler.automata.trie import Trie
from kmesh.records.constants import DEAD_STATE, Field, Handover, HeadEvent, Mark

__all__ = ["build_answer_automaton", "build_head_automaton"]


class _State(IntEnum):
    METHOD = 0
    TARGET = auto()
    SEGMENT = auto()
    """Behind a slash of the path."""
    PATH = auto()
    PARAMETER = auto()
    PARAMETER_VALUE = auto()
    OTHER_PARAMETER = auto()
    """The name or the value of one that is not looked at."""
    VERSION = auto()
    LINE_END = auto()
    LINE = auto()
    OTHER_NAME = auto()
    BLANK = auto()
    """Before the value of a header."""
    VALUE = auto()
    OTHER_VALUE = auto()
    """Of a header that is not looked at."""
    HEAD_END = auto()


_Move = tuple[bytes, int]
"""Any of these bytes, and the word of the transition by them. Of several moves by one byte the last holds."""
_Moves = tuple[_Move, ...]


def _go(members: bytes, state: int, event: int = HeadEvent.NONE) -> _Move:
    return members, make_word(state, event)


def _hand_over(reason: Handover) -> int:
    return make_word(DEAD_STATE, HeadEvent.HANDOVER + reason)


def _mark(mark: Mark) -> int:
    return HeadEvent.MARK + mark.bit_length() - 1


_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE")
_VERSION = b"HTTP/1.1"
_FRAMING = {
    b"host": int(Field.AUTHORITY),
    b"content-length": int(Field.CONTENT_LENGTH),
    b"connection": int(Field.CONNECTION),
}
"""Headers that are always noted: what a request is for, and where it ends."""
_TO_RELAY = 1
"""As a field's id: of headers that hand the request over."""
_RELAYED = dict.fromkeys((b"transfer-encoding", b"expect", b"upgrade"), _TO_RELAY)
_ANY = bytes(range(256))
_VISIBLE = bytes(range(0x21, 0x7F))
_TARGET = _VISIBLE.replace(b"#", b"")
_PARAMETER_NAME = _TARGET.translate(None, b"&=")
_TOKEN = _VISIBLE.translate(None, b'"(),/:;<=>?@[\\]{}')
_TEXT = bytes((*range(0x20, 0x7F), *range(0x80, 0x100)))
_MALFORMED = _hand_over(Handover.MALFORMED)

_PATH: _Moves = (
    _go(_TARGET, _State.PATH),
    _go(b"%", _State.PATH, _mark(Mark.PERCENT)),
    _go(b"\\", _State.PATH, _mark(Mark.BACKSLASH)),
    _go(b";", _State.PATH, _mark(Mark.PARAMETER)),
    _go(b'"<>^`{|}', _State.PATH, _mark(Mark.ESCAPABLE)),
    _go(b"/", _State.SEGMENT),
    _go(b"?", _State.PARAMETER, HeadEvent.PATH),
    _go(b" ", _State.VERSION, HeadEvent.TARGET_END),
)
_MOVES: dict[_State, _Moves] = {
    _State.TARGET: ((_ANY, _hand_over(Handover.TARGET)), _go(b"/", _State.SEGMENT, HeadEvent.TARGET)),
    _State.SEGMENT: (
        *_PATH,
        _go(b"/", _State.SEGMENT, _mark(Mark.DOUBLE_SLASH)),
        _go(b".", _State.PATH, _mark(Mark.DOT)),
    ),
    _State.PATH: _PATH,
    _State.PARAMETER_VALUE: (
        _go(_TARGET, _State.PARAMETER_VALUE),
        _go(b"&", _State.PARAMETER, HeadEvent.VALUE_END),
        _go(b" ", _State.VERSION, HeadEvent.VALUE_END + HeadEvent.TARGET_END),
    ),
    _State.OTHER_PARAMETER: (
        _go(_TARGET, _State.OTHER_PARAMETER),
        _go(b"&", _State.PARAMETER),
        _go(b" ", _State.VERSION, HeadEvent.TARGET_END),
    ),
    _State.LINE_END: (_go(b"\n", _State.LINE),),
    _State.OTHER_NAME: (_go(_TOKEN, _State.OTHER_NAME), _go(b":", _State.OTHER_VALUE, HeadEvent.SKIP)),
    _State.BLANK: (
        _go(_TEXT, _State.VALUE, HeadEvent.VALUE),
        _go(b" ", _State.BLANK),
        _go(b"\t", _State.BLANK),
        _go(b"\r", _State.LINE_END, HeadEvent.EMPTY),
    ),
    _State.VALUE: (
        _go(_TEXT, _State.VALUE),
        _go(b"\t", _State.VALUE, HeadEvent.SKIP),
        _go(b"\r", _State.LINE_END, HeadEvent.VALUE_END),
    ),
    _State.OTHER_VALUE: (
        _go(_TEXT, _State.OTHER_VALUE),
        _go(b"\t", _State.OTHER_VALUE, HeadEvent.SKIP),
        _go(b"\r", _State.LINE_END),
    ),
    _State.HEAD_END: (_go(b"\n", DEAD_STATE, HeadEvent.HEAD_END),),
}
"""Of the states that are no root of a trie. By every other byte: MALFORMED."""


def build_head_automaton(
    headers: Mapping[bytes, int], parameters: Mapping[bytes, int], budget: Budget | None = None
) -> Machine:
    """Name -> id of the field; of headers in lower case, of parameters as written in the query, perhaps empty.

    Host is always known. Names that no head can hold are left out.
    Raises: BoundExceeded.
    """
    draft = _Draft(budget or Budget())
    draft.add_names(_State.METHOD, dict.fromkeys(_METHODS, 1), _after_method)
    draft.add_names(_State.PARAMETER, _select(parameters, _PARAMETER_NAME), _after_parameter)
    draft.add_version()
    names = {name: header for name, header in _select(headers, _TOKEN).items() if name}
    draft.add_names(_State.LINE, {**names, **_FRAMING, **_RELAYED}, _after_header, ignore_case=True)
    draft.moves[_State.LINE] = (*draft.moves[_State.LINE], (b":", _MALFORMED), _go(b"\r", _State.HEAD_END))
    return draft.finish()


def build_answer_automaton() -> Machine:
    """Of answers: the status, and what says where they end."""
    draft = _Draft(Budget())
    state = draft.add_text(_State.METHOD, _VERSION)
    draft.outputs[state] = int(Field.STATUS)
    code = draft.add(())
    draft.moves[state] = (_go(b" ", code, HeadEvent.NAME),)
    for _ in range(3):
        behind = draft.add(())
        draft.moves[code] = (_go(b"0123456789", behind),)
        code = behind
    reason = draft.add(())
    draft.moves[code] = (
        _go(b" ", reason, HeadEvent.VALUE_END),
        _go(b"\r", _State.LINE_END, HeadEvent.VALUE_END),
    )
    draft.moves[reason] = (_go(_TEXT + b"\t", reason), _go(b"\r", _State.LINE_END))
    names = {
        b"content-length": int(Field.CONTENT_LENGTH),
        b"connection": int(Field.CONNECTION),
        b"transfer-encoding": int(Field.TRANSFER_ENCODING),
    }
    draft.add_names(_State.LINE, names, _after_header, ignore_case=True)
    draft.moves[_State.LINE] = (*draft.moves[_State.LINE], (b":", _MALFORMED), _go(b"\r", _State.HEAD_END))
    return draft.finish()


def _select(names: Mapping[bytes, int], allowed: bytes) -> dict[bytes, int]:
    """Those made of `allowed` bytes only."""
    return {name: number for name, number in names.items() if not name.translate(None, allowed)}


def _after_method(is_known: int) -> _Moves:
    other = (_ANY, _hand_over(Handover.METHOD))
    return (other, _go(b" ", _State.TARGET, HeadEvent.METHOD)) if is_known else (other,)


def _after_parameter(is_known: int) -> _Moves:
    event = HeadEvent.BARE if is_known else HeadEvent.NONE
    moves = (
        _go(_TARGET, _State.OTHER_PARAMETER),
        _go(b"&", _State.PARAMETER, event),
        _go(b" ", _State.VERSION, event + HeadEvent.TARGET_END),
    )
    return (*moves, _go(b"=", _State.PARAMETER_VALUE, HeadEvent.NAME)) if is_known else moves


def _after_header(field: int) -> _Moves:
    if field == _TO_RELAY:
        end = (b":", _hand_over(Handover.FRAMING))
    elif field:
        end = _go(b":", _State.BLANK, HeadEvent.NAME)
    else:
        end = _go(b":", _State.OTHER_VALUE, HeadEvent.SKIP)
    return _go(_TOKEN, _State.OTHER_NAME), end


@dataclass(slots=True)
class _Draft:
    """The machine while it is drawn: by bytes, whose classes follow from all moves."""

    budget: Budget
    moves: list[_Moves] = field(default_factory=lambda: [_MOVES.get(state, ()) for state in _State])
    outputs: list[int] = field(default_factory=lambda: [0] * len(_State))

    def add(self, moves: _Moves) -> int:
        """A new state."""
        self.moves.append(moves)
        self.outputs.append(0)
        return len(self.moves) - 1

    def add_names(
        self,
        root: _State,
        names: Mapping[bytes, int],
        after: Callable[[int], _Moves],
        *,
        ignore_case: bool = False,
    ) -> None:
        """A trie of `names`, whose outputs they lead to. `after`: what else may follow one, by its output, or 0."""
        trie = Trie(names, self.budget, ignore_case=ignore_case)
        outputs = {trie.add(name): output for name, output in names.items()}
        members = [bytes(byte for byte in _ANY if trie.classes[byte] == number) for number in range(256)]
        states = [root, *(self.add(()) for _ in trie.children[1:])]
        for node, state in enumerate(states):
            steps = (_go(members[number], states[child]) for number, child in trie.children[node].items())
            self.moves[state] = (*after(outputs.get(node, 0)), *steps)
            self.outputs[state] = outputs.get(node, 0)

    def add_text(self, state: int, text: bytes) -> int:
        """States that read `text`, from `state` on; returns the one behind."""
        for length in range(len(text)):
            other = Handover.VERSION if text[:length].startswith(b"HTTP/") else Handover.MALFORMED
            behind = self.add(())
            self.moves[state] = ((_ANY, _hand_over(other)), _go(text[length : length + 1], behind))
            state = behind
        return state

    def add_version(self) -> None:
        state = self.add_text(_State.VERSION, _VERSION)
        self.moves[state] = ((_VISIBLE, _hand_over(Handover.VERSION)), _go(b"\r", _State.LINE_END))

    def finish(self) -> Machine:
        sets = dict.fromkeys(members for moves in self.moves for members, _ in moves)
        classes = make_classes(sets)
        classes_of = {members: set(members.translate(classes)) for members in sets}
        rows = []
        for moves in self.moves:
            words = [_MALFORMED] * (max(classes) + 1)
            for members, word in moves:
                for byte_class in classes_of[members]:
                    words[byte_class] = word
            rows.append(make_row(words))
        return Machine(classes=classes, rows=rows, outputs=self.outputs, entries=(_State.LINE_END,))
