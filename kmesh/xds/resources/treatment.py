"""What becomes of a field that a control plane sets: nothing is dropped without a reason written down.

`limitations_of` walks what a message sets and looks every field up in FIELDS (kmesh.xds.resources.fields). A field
that the table does not name, or that this version of the messages does not even know, refuses the connections it
concerns: it may change where they go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from kmesh.model.limitation import Effect, Limitation
from kmesh.xds.resources.field import at, under

__all__ = ["Treatment", "limitations_of", "treat"]


@dataclass(frozen=True, slots=True)
class Treatment:
    """The fields of one message, each in exactly one of these."""

    honoured: frozenset[str]
    """The decoder reads it. When it is a message, the walk goes on inside it."""
    parts: frozenset[str]
    """The decoder makes a model object of it that has limitations of its own: not walked from here."""
    present: frozenset[str]
    """Only whether it is set is read: what is inside says nothing more that matters. Not walked."""
    ignored: Mapping[str, str]
    """Has no effect on connections, for the reason given."""
    limited: Mapping[str, Effect]
    """Valid, and not honoured here."""
    names: frozenset[str] = field(init=False)
    silent: frozenset[str] = field(init=False)
    """Neither walked nor limited."""

    def __post_init__(self) -> None:
        groups = (self.honoured, self.parts, self.present, self.ignored, self.limited)
        names = frozenset[str]().union(*groups)
        assert len(names) == sum(map(len, groups)), "a field has two treatments"
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "silent", self.parts | self.present | frozenset(self.ignored))


def treat(
    honoured: str = "",
    *,
    parts: str = "",
    present: str = "",
    ignored: Mapping[str, str] | None = None,
    refused: str = "",
    unenforced: str = "",
    approximated: str = "",
) -> Treatment:
    """Field names separated by spaces; `ignored` maps a reason to its fields."""
    effects = ((Effect.REFUSED, refused), (Effect.UNENFORCED, unenforced), (Effect.APPROXIMATED, approximated))
    return Treatment(
        honoured=frozenset(honoured.split()),
        parts=frozenset(parts.split()),
        present=frozenset(present.split()),
        ignored={name: reason for reason, names in (ignored or {}).items() for name in names.split()},
        limited={name: effect for effect, names in effects for name in names.split()},
    )


def limitations_of(message: Message, fields: Mapping[str, Treatment], path: str = "") -> tuple[Limitation, ...]:
    """What `message`, at `path` of its resource, asks for that is not honoured, in field order."""
    out: list[Limitation] = []
    _collect(message, fields, path, out)
    return tuple(out)


def _collect(message: Message, fields: Mapping[str, Treatment], path: str, out: list[Limitation]) -> None:
    descriptor = message.DESCRIPTOR
    if descriptor.full_name.startswith("google.protobuf."):
        return
    treatment = fields[descriptor.full_name]
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        out.append(_limit(f"{descriptor.name} field {unknown[index].field_number}", path, Effect.REFUSED))
    for known, value in message.ListFields():
        name = known.name
        if name in treatment.honoured:
            if known.message_type is not None:
                _descend(value, known.is_repeated, fields, under(path, name), out)
        elif name in treatment.silent or not _asks(value):
            continue
        else:
            effect = treatment.limited.get(name, Effect.REFUSED)
            out.append(_limit(f"{descriptor.name}.{name}", under(path, name), effect))


def _descend(
    value: Any, is_repeated: bool, fields: Mapping[str, Treatment], path: str, out: list[Limitation]
) -> None:
    if not is_repeated:
        _collect(value, fields, path, out)
    elif not isinstance(value, Mapping):
        for index, inner in enumerate(value):
            _collect(inner, fields, at(path, index), out)
    elif isinstance(next(iter(value.values()), None), Message):
        for key, inner in value.items():
            _collect(inner, fields, at(path, key), out)


def _asks(value: Any) -> bool:
    """Whether a field that is present asks for anything: a wrapped false and a duration of 0 switch things off."""
    match getattr(getattr(value, "DESCRIPTOR", None), "full_name", ""):
        case "google.protobuf.BoolValue":
            return bool(value.value)
        case "google.protobuf.Duration":
            return bool(value.seconds or value.nanos)
        case _:
            return True


def _limit(feature: str, path: str, effect: Effect) -> Limitation:
    return Limitation(feature=feature, path=path, effect=effect)
