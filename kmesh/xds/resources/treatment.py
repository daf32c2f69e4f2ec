"""What becomes of a field that a control plane sets: nothing is dropped without a reason written down.

`limitations_of` walks what a message sets and looks every field up in FIELDS (kmesh.xds.resources.fields). A field
that the table does not name, or that this version of the messages does not even know, refuses the connections it
concerns: it may change where they go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from kmesh.model.limitation import Effect, Limitation
from kmesh.model.route import Feature
from kmesh.xds.resources.field import at, under

__all__ = ["Treatment", "features_of", "limitations_of", "treat"]

_Found = tuple[str, str, Effect | None]
"""Message and field, path, and the effect of what is limited."""


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
    features: frozenset[str]
    """Carried in the model by name (kmesh.model.route_features); see `features_of`."""
    names: frozenset[str] = field(init=False)
    silent: frozenset[str] = field(init=False)
    """Neither walked nor limited."""

    def __post_init__(self) -> None:
        groups = (self.honoured, self.parts, self.present, self.ignored, self.limited, self.features)
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
    features: str = "",
) -> Treatment:
    """Field names separated by spaces; `ignored` maps a reason to its fields."""
    effects = ((Effect.REFUSED, refused), (Effect.UNENFORCED, unenforced), (Effect.APPROXIMATED, approximated))
    return Treatment(
        honoured=frozenset(honoured.split()),
        parts=frozenset(parts.split()),
        present=frozenset(present.split()),
        ignored={name: reason for reason, names in (ignored or {}).items() for name in names.split()},
        limited={name: effect for effect, names in effects for name in names.split()},
        features=frozenset(features.split()),
    )


def limitations_of(message: Message, fields: Mapping[str, Treatment], path: str = "") -> tuple[Limitation, ...]:
    """What `message`, at `path` of its resource, asks for that is not honoured, in field order. Without features."""
    return tuple(
        Limitation(feature=name, path=where, effect=effect)
        for name, where, effect in _find(message, fields, path)
        if effect is not None
    )


def features_of(message: Message, fields: Mapping[str, Treatment], path: str = "") -> tuple[Feature, ...]:
    """What a route, virtual host or route configuration asks for beside what its model object says.

    A field that is limited, or that is not known at all, is a feature like any other.
    """
    return tuple(Feature(name=name, path=where) for name, where, _ in _find(message, fields, path))


def _find(message: Message, fields: Mapping[str, Treatment], path: str) -> Iterator[_Found]:
    descriptor = message.DESCRIPTOR
    if descriptor.full_name.startswith("google.protobuf."):
        return
    treatment = fields[descriptor.full_name]
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield f"{descriptor.name} field {unknown[index].field_number}", path, Effect.REFUSED
    for known, value in message.ListFields():
        name = known.name
        if name in treatment.honoured:
            if known.message_type is not None:
                yield from _descend(value, known.is_repeated, fields, under(path, name))
        elif name in treatment.silent or not _asks(value):
            continue
        else:
            effect = None if name in treatment.features else treatment.limited.get(name, Effect.REFUSED)
            yield f"{descriptor.name}.{name}", under(path, name), effect


def _descend(value: Any, is_repeated: bool, fields: Mapping[str, Treatment], path: str) -> Iterator[_Found]:
    if not is_repeated:
        yield from _find(value, fields, path)
    elif not isinstance(value, Mapping):
        for index, inner in enumerate(value):
            yield from _find(inner, fields, at(path, index))
    elif isinstance(next(iter(value.values()), None), Message):
        for key, inner in value.items():
            yield from _find(inner, fields, at(path, key))


def _asks(value: Any) -> bool:
    """Whether a field that is present asks for anything: a wrapped false and a duration of 0 switch things off."""
    match getattr(getattr(value, "DESCRIPTOR", None), "full_name", ""):
        case "google.protobuf.BoolValue":
            return bool(value.value)
        case "google.protobuf.Duration":
            return bool(value.seconds or value.nanos)
        case _:
            return True

