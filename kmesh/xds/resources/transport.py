"""Transport sockets: only whether they are plaintext, since nothing here encrypts yet."""

from __future__ import annotations

from typing import Any

from kmesh.model.cluster import TransportMatch
from kmesh.model.limitation import Effect, Limitation
from kmesh.xds.resources.extension import open_extension
from kmesh.xds.resources.field import at, under
from kmesh.xds.resources.known_extensions import RAW_BUFFER

__all__ = ["decode_downstream_transport", "decode_transports"]


def decode_transports(cluster: Any) -> tuple[tuple[TransportMatch, ...], tuple[Limitation, ...]]:
    """The cluster's transports, most specific choice first; empty when it has none. Limitations of their matches."""
    out: list[TransportMatch] = []
    limitations: list[Limitation] = []
    for index, entry in enumerate(cluster.transport_socket_matches):
        path = at("transport_socket_matches", index)
        fields = entry.match.fields
        if any(value.WhichOneof("kind") != "string_value" for value in fields.values()):
            where = under(path, "match")
            limitations.append(Limitation(feature="match on other than strings", path=where, effect=Effect.REFUSED))
        match = tuple(sorted((key, value.string_value) for key, value in fields.items()))
        out.append(_decode_match(entry.transport_socket, match, under(path, "transport_socket")))
    if cluster.HasField("transport_socket"):
        out.append(_decode_match(cluster.transport_socket, (), "transport_socket"))
    elif out:
        out.append(TransportMatch(match=(), is_plaintext=True, transport="raw_buffer"))
    return tuple(out), tuple(limitations)


def decode_downstream_transport(filter_chain: Any, path: str) -> tuple[Limitation, ...]:
    """TLS and its like toward clients refuse the chain: bytes would have to be transformed."""
    if not filter_chain.HasField("transport_socket"):
        return ()
    where = under(path, "transport_socket")
    extension = open_extension(filter_chain.transport_socket.typed_config, under(where, "typed_config"))
    if extension.type_name == RAW_BUFFER:
        return ()
    return (Limitation(feature=extension.type_name, path=where, effect=Effect.REFUSED),)


def _decode_match(socket: Any, match: tuple[tuple[str, str], ...], path: str) -> TransportMatch:
    extension = open_extension(socket.typed_config, under(path, "typed_config"))
    return TransportMatch(match=match, is_plaintext=extension.type_name == RAW_BUFFER, transport=socket.name)
