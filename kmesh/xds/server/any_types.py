"""Finds the message type behind a type URL, importing its generated module when it is first asked for.

xds-protos holds some 800 modules; a configuration uses a few dozen. In all of them but protobuf's own the proto
package is the Python package, so the type's name says where to look.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default

__all__ = ["AnyTypes"]

_ROOTS = ("envoy", "google", "udpa", "xds")


class AnyTypes:
    """Takes the place of json_format's descriptor pool, of which it calls this one method."""

    def FindMessageTypeByName(self, full_name: str) -> Descriptor:
        """Raises KeyError when no installed module defines the type."""
        pool = Default()
        try:
            return pool.FindMessageTypeByName(full_name)
        except KeyError:
            _import_package(full_name)
        return pool.FindMessageTypeByName(full_name)


def _import_package(full_name: str) -> None:
    """Import the modules of the longest prefix of `full_name` that is a package (a nested type has two to drop)."""
    parts = full_name.split(".")
    if parts[0] not in _ROOTS:
        return
    for end in range(len(parts) - 1, 1, -1):
        try:
            package = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for module in iter_modules(package.__path__, package.__name__ + "."):
            if module.name.endswith("_pb2"):
                import_module(module.name)
        return
