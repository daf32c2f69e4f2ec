"""Model objects as lists, numbers and text, and back, by the type hints of their classes. Pure.

    Route(name="a", action=ClusterAction(cluster="c"))   ->   [0b101, "a", [0, [0b1, "c"]]]

A dataclass is a list: a bit for each field that is not its default, and those fields. A union of dataclasses says
first which it is. Nothing in the lists tells what they are: `describe` does, and who keeps them compares it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from hashlib import blake2b
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

__all__ = ["Codec", "codec_of", "describe"]

_PLAIN = (str, int, float, bool, bytes, NoneType)


class Codec(NamedTuple):
    """Of one type. `decode` takes what `encode` gave, with lists for tuples; anything else may fail in any way."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    description: str
    """Of the type, with all that it is made of: two that differ in it may not be read as each other."""


def describe(kind: type) -> bytes:
    """A digest of the type's description."""
    return blake2b(codec_of(kind).description.encode(), digest_size=16).digest()


@cache
def codec_of(hint: Any) -> Codec:
    """For frozen dataclasses, enums, tuples, mappings, unions of dataclasses or with None, and plain values."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return Codec(_keep, _keep, hint.__name__)
    if origin in (Union, UnionType):
        return _union_codec(arguments)
    if origin is tuple:
        return _tuple_codec(arguments)
    if origin is Mapping:
        return _mapping_codec(*map(codec_of, arguments))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum_codec(hint)
    if is_dataclass(hint):
        return _dataclass_codec(hint)
    raise TypeError(f"{hint} has no codec")


def _keep(value: Any) -> Any:
    return value


def _dataclass_codec(kind: Any) -> Codec:
    hints = get_type_hints(kind)
    ours = [field for field in fields(kind) if field.init]
    codecs = [codec_of(hints[field.name]) for field in ours]
    steps = [
        (1 << index, field.name, field.default, codec)
        for index, (field, codec) in enumerate(zip(ours, codecs, strict=True))
    ]

    def encode(value: Any) -> list[Any]:
        mask, out = 0, [0]
        for bit, name, default, codec in steps:
            held = getattr(value, name)
            if held is not default and held != default:
                mask |= bit
                out.append(codec.encode(held))
        out[0] = mask
        return out

    def decode(plain: Any) -> Any:
        mask, *rest = plain
        values = iter(rest)
        return kind(**{name: codec.decode(next(values)) for bit, name, _, codec in steps if mask & bit})

    described = (
        f"{field.name}:{codec.description}" + ("" if field.default is MISSING else f"={field.default!r}")
        for field, codec in zip(ours, codecs, strict=True)
    )
    return Codec(encode, decode, f"{kind.__qualname__}({','.join(described)})")


def _enum_codec(kind: type[Enum]) -> Codec:
    return Codec(lambda member: member.value, kind, f"{kind.__qualname__}{[member.value for member in kind]}")


def _tuple_codec(arguments: tuple[Any, ...]) -> Codec:
    if arguments[1:] == (...,):
        item = codec_of(arguments[0])
        return Codec(
            lambda items: [item.encode(held) for held in items],
            lambda plain: tuple([item.decode(held) for held in plain]),
            f"tuple[{item.description}...]",
        )
    items = [codec_of(argument) for argument in arguments]
    return Codec(
        lambda held: [codec.encode(value) for codec, value in zip(items, held, strict=True)],
        lambda plain: tuple(codec.decode(value) for codec, value in zip(items, plain, strict=True)),
        f"tuple[{','.join(codec.description for codec in items)}]",
    )


def _mapping_codec(key: Codec, value: Codec) -> Codec:
    return Codec(
        lambda held: {key.encode(name): value.encode(item) for name, item in held.items()},
        lambda plain: {key.decode(name): value.decode(item) for name, item in plain.items()},
        f"mapping[{key.description},{value.description}]",
    )


def _union_codec(arguments: tuple[Any, ...]) -> Codec:
    """None stands for itself; of several others each is [its number, itself]."""
    kinds = [kind for kind in arguments if kind is not NoneType]
    codecs = [codec_of(kind) for kind in kinds]
    description = f"union[{','.join(codec.description for codec in codecs)}]"
    if len(codecs) == 1:
        (only,) = codecs
        return Codec(
            lambda held: None if held is None else only.encode(held),
            lambda plain: None if plain is None else only.decode(plain),
            description,
        )
    numbers = {kind: number for number, kind in enumerate(kinds)}

    def encode(held: Any) -> Any:
        number = numbers[type(held)]
        return [number, codecs[number].encode(held)]

    def decode(plain: Any) -> Any:
        number, inner = plain
        return codecs[number].decode(inner)

    return Codec(encode, decode, description)
