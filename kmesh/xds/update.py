"""What the xDS client tells its consumer: one Update for each response, and for each expiry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kmesh.errors import ResourceInvalid

__all__ = ["Update"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What changed in one type. A response that changed nothing gives one too: the type was answered."""

    type_url: str
    version: str = ""
    """The response's version, whether accepted or not; "" when no response caused the update."""
    changed: Mapping[str, object]
    """Model objects by name: new ones, and those whose bytes differ from the ones held."""
    removed: frozenset[str]
    """Names that are there no longer, and subscribed names that turned out not to exist at all (the server said
    so, or did not send them in time). A name may come twice."""
    errors: tuple[ResourceInvalid, ...] = ()
    """Why the response was rejected; each named resource keeps its last good version, if it ever had one."""
