"""Every field of every decoded message has a treatment, and every treatment is of a field."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from kmesh.model.limitation import Effect
from kmesh.xds.resources import ALL
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.treatment import Treatment, limitations_of, treat

_POOL = descriptor_pool.Default()

# Any payloads and the messages whose parts decoders open by hand: the walk cannot reach them from a resource.
_OPENED_BY_HAND = {name for name in FIELDS if name.startswith(("envoy.extensions.", "xds."))}


def _descriptor(name: str) -> Descriptor:
    assert ALL  # importing the decoders registers their messages
    return _POOL.FindMessageTypeByName(name)


def _nested(descriptor: Descriptor, name: str) -> Descriptor | None:
    nested = descriptor.fields_by_name[name].message_type
    if nested is not None and nested.GetOptions().map_entry:
        nested = nested.fields_by_name["value"].message_type
    return nested


@pytest.mark.parametrize("name", FIELDS)
def test_treats_exactly_the_fields_of_the_message(name: str) -> None:
    got = FIELDS[name].names
    want = {field.name for field in _descriptor(name).fields}
    assert got == want


@pytest.mark.parametrize("name", FIELDS)
def test_treats_the_messages_of_fields_that_are_read(name: str) -> None:
    """A message inside a field that is read has fields of its own that could be dropped."""
    treatment = FIELDS[name]
    for field in treatment.honoured | treatment.parts:
        nested = _nested(_descriptor(name), field)
        if nested is not None and not nested.full_name.startswith("google.protobuf."):
            assert nested.full_name in FIELDS, f"{name}.{field}"


def test_has_no_message_that_nothing_leads_to() -> None:
    reached = set(_OPENED_BY_HAND)
    queue = [kind.type_url.rpartition("/")[2] for kind in ALL] + sorted(reached)
    while queue:
        name = queue.pop()
        reached.add(name)
        for field in FIELDS[name].honoured | FIELDS[name].parts:
            nested = _nested(_descriptor(name), field)
            if nested is not None and nested.full_name in FIELDS and nested.full_name not in reached:
                queue.append(nested.full_name)
    assert FIELDS.keys() - reached == set()


def test_reasons_are_given_for_what_is_ignored() -> None:
    for name, treatment in FIELDS.items():
        for field, reason in treatment.ignored.items():
            assert len(reason.split()) > 3, f"{name}.{field}"


def _without(treatment: Treatment, field: str) -> Treatment:
    return treat(" ".join(treatment.honoured - {field}), parts=" ".join(treatment.parts))


def test_a_field_in_no_class_refuses() -> None:
    """What a newer xds-protos would bring, before the table knows it."""
    name = "envoy.config.core.v3.CidrRange"
    message = _new(name)
    message.address_prefix = "10.0.0.0"  # type: ignore[attr-defined]
    fields = {name: _without(FIELDS[name], "address_prefix")}
    got = [(limit.feature, limit.effect) for limit in limitations_of(message, fields)]
    assert got == [("CidrRange.address_prefix", Effect.REFUSED)]


def test_a_field_number_that_is_not_known_refuses() -> None:
    message = _new("envoy.config.core.v3.CidrRange")
    message.ParseFromString(b"\x0a\x0810.0.0.0" + b"\xf8\x3f\x01")
    got = [(limit.feature, limit.path, limit.effect) for limit in limitations_of(message, FIELDS, "here")]
    assert got == [("CidrRange field 1023", "here", Effect.REFUSED)]


def _new(name: str) -> Message:
    return message_factory.GetMessageClass(_descriptor(name))()
