"""One file per xDS resource type: protobuf in, model out, everything validated once.

Two outcomes, never mixed up. What Envoy would reject raises ResourceInvalid and is NACKed; what is valid and not
honoured here stays in the model as a Limitation, and every field of every decoded message has its treatment in one
table (fields.py), so that nothing is dropped in silence.
"""

from __future__ import annotations

from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources import cluster, endpoint, listener, route

__all__ = ["ALL"]

ALL: tuple[ResourceType, ...] = (cluster.TYPE, endpoint.TYPE, listener.TYPE, route.TYPE)
"""In make-before-break order."""
