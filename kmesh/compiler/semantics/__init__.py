"""What a route configuration means for one request, in plain Python: Envoy's rules, held against the real Envoy.

Reads the model only. The matchers that the compiler makes are held against this in turn; `kmeshctl explain` shows it.
"""

from kmesh.compiler.semantics.location import ReplaceRegex, rewrite_prefix
from kmesh.compiler.semantics.request import Reply, Request, Subject
from kmesh.compiler.semantics.routing import (
    Outcome,
    Rejection,
    Routed,
    ToCluster,
    ToOneOf,
    Undecided,
    route_in_host,
    route_request,
)
from kmesh.compiler.semantics.target import build_subject

__all__ = ["Outcome", "Rejection", "ReplaceRegex", "Reply", "Request", "Routed", "Subject", "ToCluster", "ToOneOf"]
__all__ += ["Undecided", "build_subject", "rewrite_prefix", "route_in_host", "route_request"]
