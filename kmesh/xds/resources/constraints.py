"""Envoy's field constraints, read from where Envoy reads them: the validate.rules options in the descriptors.

A resource that breaks one is refused by Envoy before it looks at what the resource means, and so it is here.
One rule is no option and joins them here: a regex is one that RE2 takes, wherever a resource has a RegexMatcher.
Rules are compiled once for each message type; messages whose tree holds no rule are not walked.
A test names the few rules that are left out, and why.
Source: github.com/bufbuild/protoc-gen-validate, validate.proto.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from validate import validate_pb2

from kmesh.errors import Unsupported
from kmesh.regex import RegexInvalid, parse_regex
from kmesh.xds.resources.field import FieldInvalid, at, clip, under

__all__ = ["check_constraints"]

Check = Callable[[Any], str | None]
"""A value -> what is wrong with it, or None."""

_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_NUMBERS = frozenset({"double", "float", "int32", "int64", "uint32", "uint64"})
_HEADER_FORBIDDEN = frozenset("\0\r\n")
_REGEX = "envoy.type.matcher.v3.RegexMatcher.regex"


@dataclass(frozen=True, slots=True)
class _FieldRules:
    name: str
    is_required: bool
    is_repeated: bool
    is_map: bool
    has_presence: bool
    whole: tuple[Check, ...]
    """On the field's value; on the container when repeated."""
    items: tuple[Check, ...]
    """On each element, or each key of a map."""
    descends: bool


@dataclass(frozen=True, slots=True)
class _MessageRules:
    fields: tuple[_FieldRules, ...]
    required_oneofs: tuple[str, ...]


def check_constraints(message: Message, path: str = "", *, without: frozenset[str] = frozenset()) -> None:
    """Raises FieldInvalid at the first field of the tree that breaks its rule; `without` names fields to skip."""
    rules = _rules_of(message.DESCRIPTOR)
    for oneof in rules.required_oneofs:
        if message.WhichOneof(oneof) is None:
            raise FieldInvalid(path, f"one of {oneof} is required")
    for field in rules.fields:
        if field.name in without:
            continue
        if not field.has_presence or message.HasField(field.name):
            _check_field(message, field, under(path, field.name))
        elif field.is_required:
            raise FieldInvalid(under(path, field.name), "is required")


def _check_field(message: Message, field: _FieldRules, path: str) -> None:
    value = getattr(message, field.name)
    _apply(field.whole, value, path)
    if not field.is_repeated:
        if field.descends:
            check_constraints(value, path)
        return
    for key in value if field.is_map else range(len(value)):
        inner = at(path, key)
        _apply(field.items, key if field.is_map else value[key], inner)
        if field.descends:
            check_constraints(value[key], inner)


def _apply(checks: tuple[Check, ...], value: Any, path: str) -> None:
    for check in checks:
        wrong = check(value)
        if wrong is not None:
            raise FieldInvalid(path, wrong)


@cache
def _rules_of(descriptor: Descriptor) -> _MessageRules:
    fields = (_compile(field) for field in descriptor.fields)
    oneofs = (o.name for o in descriptor.oneofs if o.GetOptions().Extensions[validate_pb2.required])
    return _MessageRules(tuple(f for f in fields if f is not None), tuple(oneofs))


@cache
def _has_rules(descriptor: Descriptor) -> bool:
    """Whether any message reachable from this type has a rule."""
    seen: set[str] = set()
    queue = [descriptor]
    while queue:
        at = queue.pop()
        if at.full_name in seen or at.full_name.startswith("google.protobuf."):
            continue
        seen.add(at.full_name)
        if any(o.GetOptions().Extensions[validate_pb2.required] for o in at.oneofs):
            return True
        if any(f.GetOptions().HasExtension(validate_pb2.rules) for f in at.fields):
            return True
        queue.extend(f.message_type for f in at.fields if f.message_type is not None)
    return False


def _compile(field: FieldDescriptor) -> _FieldRules | None:
    rules = field.GetOptions().Extensions[validate_pb2.rules]
    nested = field.message_type
    is_map = nested is not None and nested.GetOptions().map_entry
    if is_map and field.message_type is not None:
        nested = field.message_type.fields_by_name["value"].message_type
    kind = rules.WhichOneof("type")
    checks = () if kind is None else _checks(field, kind, getattr(rules, kind))
    items = _item_checks(field, kind, rules)
    descends = nested is not None and not rules.message.skip and _has_rules(nested)
    is_required = field.containing_oneof is None and (
        rules.message.required or (kind in ("any", "duration") and getattr(rules, kind).required)
    )
    if not (checks or items or descends or is_required):
        return None
    return _FieldRules(
        name=field.name,
        is_required=is_required,
        is_repeated=field.is_repeated,
        is_map=is_map,
        has_presence=field.has_presence,
        whole=checks,
        items=items,
        descends=descends,
    )


def _item_checks(field: FieldDescriptor, kind: str | None, rules: validate_pb2.FieldRules) -> tuple[Check, ...]:
    if kind not in ("repeated", "map"):
        return ()
    inner = rules.repeated.items if kind == "repeated" else rules.map.keys
    inner_kind = inner.WhichOneof("type")
    return () if inner_kind is None else _scalar_checks(inner_kind, getattr(inner, inner_kind), field.enum_type)


def _checks(field: FieldDescriptor, kind: str, rule: Any) -> tuple[Check, ...]:
    match kind:
        case "repeated":
            return tuple(_count_checks(rule, "min_items", "max_items")) + ((_is_unique,) if rule.unique else ())
        case "map":
            return tuple(_count_checks(rule, "min_pairs", "max_pairs"))
        case _:
            checks = _scalar_checks(kind, rule, field.enum_type)
    if field.full_name == _REGEX:
        return (*checks, _re2_syntax)
    if field.message_type is not None and field.message_type.full_name in _WRAPPERS:
        return tuple(_unwrapped(check) for check in checks)
    return checks


def _count_checks(rule: Any, low: str, high: str) -> list[Check]:
    out: list[Check] = []
    if rule.HasField(low):
        least = getattr(rule, low)
        out.append(lambda items: None if len(items) >= least else f"needs at least {least}")
    if rule.HasField(high):
        most = getattr(rule, high)
        out.append(lambda items: None if len(items) <= most else f"has {len(items)}, at most {most} are allowed")
    return out


def _is_unique(items: Any) -> str | None:
    return None if len(set(items)) == len(items) else "has duplicates"


def _unwrapped(check: Check) -> Check:
    return lambda wrapper: check(wrapper.value)


def _scalar_checks(kind: str, rule: Any, enum: Any) -> tuple[Check, ...]:
    if kind in _NUMBERS:
        return (_range_check(rule, lambda bound: bound, str),)
    match kind:
        case "duration":
            return (_range_check(rule, _nanoseconds, _seconds),)
        case "enum":
            return tuple(_enum_checks(rule, enum))
        case "string":
            return tuple(_string_checks(rule))
        case "bytes":
            return tuple(_length_checks(rule, "min_len", "max_len", len, "bytes"))
        case "bool" if rule.HasField("const"):
            want = rule.const
            return (lambda value: None if value == want else f"must be {want}",)
        case _:
            return ()


def _range_check(rule: Any, scale: Callable[[Any], Any], show: Callable[[Any], str]) -> Check:
    """Bounds as one check. A lower bound above the upper one means "outside", which no decoded message uses."""
    tests: dict[str, Callable[[Any, Any], bool]] = {
        "gt": lambda value, bound: value > bound,
        "gte": lambda value, bound: value >= bound,
        "lt": lambda value, bound: value < bound,
        "lte": lambda value, bound: value <= bound,
    }
    signs = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
    limits = [(name, getattr(rule, name)) for name in tests if rule.HasField(name)]
    bounds = [(tests[name], scale(limit), f"{signs[name]} {show(limit)}") for name, limit in limits]

    def check(value: Any) -> str | None:
        scaled = scale(value)
        for holds, bound, text in bounds:
            if not holds(scaled, bound):
                return f"is {show(value)}, must be {text}"
        return None

    return check


def _nanoseconds(duration: Any) -> int:
    return int(duration.seconds * 1_000_000_000 + duration.nanos)


def _seconds(duration: Any) -> str:
    return f"{_nanoseconds(duration) / 1e9:g} s"


def _enum_checks(rule: Any, enum: Any) -> list[Check]:
    out: list[Check] = []
    if rule.defined_only and enum is not None:
        known = frozenset(enum.values_by_number)
        out.append(lambda value: None if value in known else f"{value} is no {enum.name}")
    if rule.not_in:
        banned = frozenset(rule.not_in)
        out.append(lambda value: f"{value} is not allowed" if value in banned else None)
    return out


def _string_checks(rule: Any) -> list[Check]:
    out = _length_checks(rule, "min_len", "max_len", len, "characters")
    out += _length_checks(rule, "min_bytes", "max_bytes", lambda text: len(text.encode()), "bytes")
    if rule.prefix:
        out.append(lambda text: None if text.startswith(rule.prefix) else f"must start with {rule.prefix!r}")
    if rule.suffix:
        out.append(lambda text: None if text.endswith(rule.suffix) else f"must end with {rule.suffix!r}")
    allowed = frozenset(getattr(rule, "in"))
    if allowed:
        out.append(lambda text: None if text in allowed else f"{clip(text)} is none of {sorted(allowed)}")
    if rule.WhichOneof("well_known") == "well_known_regex":
        out.append(_header_text)
    if rule.ignore_empty:
        out = [_unless_empty(check) for check in out]
    return out


def _header_text(text: str) -> str | None:
    """HTTP_HEADER_NAME and HTTP_HEADER_VALUE, to what both always forbid."""
    return "has a character that no HTTP header may have" if _HEADER_FORBIDDEN & set(text) else None


def _re2_syntax(pattern: str) -> str | None:
    """What RE2 takes and only RE2 can match passes: that is for the compiler to say."""
    try:
        parse_regex(pattern)
    except RegexInvalid as why:
        return f"is not RE2 syntax: {why}"
    except Unsupported:
        return None
    return None


def _unless_empty(check: Check) -> Check:
    return lambda value: check(value) if value else None


def _length_checks(rule: Any, low: str, high: str, measure: Callable[[Any], int], unit: str) -> list[Check]:
    out: list[Check] = []
    if rule.HasField(low):
        least = getattr(rule, low)
        text = "must not be empty" if least == 1 else f"needs at least {least} {unit}"
        out.append(lambda value: None if measure(value) >= least else text)
    if rule.HasField(high):
        most = getattr(rule, high)
        out.append(lambda value: None if measure(value) <= most else f"has more than {most} {unit}")
    return out
