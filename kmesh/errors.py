"""The one exception tree, grouped by what the program does about it.

KmeshError
├── ConfigError           the user's own settings: one sentence with the remedy, exit 2
├── ProtocolError         the control plane broke the xDS protocol: close the stream, back off
├── StreamLost            the stream ended or never opened: back off, keep serving what is loaded
├── ResourceInvalid       one resource cannot be: NACK it, keep its last good version
├── CompileError
│   ├── CapacityExceeded  a map cannot grow to what the snapshot needs: refuse the snapshot as a whole
│   └── Unsupported       valid, but nothing here can honour it: refuse its connections, say so
├── MapError              bpf(2) failed on a map
└── KernelError
    ├── FeatureMissing    the kernel lacks something, and the version that has it
    └── VerifierRejected  the verifier refused a program; carries its log
"""

from __future__ import annotations

import os

__all__ = [
    "CapacityExceeded",
    "CompileError",
    "ConfigError",
    "FeatureMissing",
    "KernelError",
    "KmeshError",
    "MapError",
    "ProtocolError",
    "ResourceInvalid",
    "StreamLost",
    "Unsupported",
    "VerifierRejected",
]


class KmeshError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(KmeshError):
    """A setting of the user's is wrong; the message is one sentence with the remedy."""


class ProtocolError(KmeshError):
    """The peer broke the xDS protocol in a way that no NACK can express."""


class StreamLost(KmeshError):
    """The ADS stream ended, or could not be opened."""


class ResourceInvalid(KmeshError):
    """One xDS resource is invalid.

    `name` is "" when the resource could not be decoded far enough to have one; `path` is the proto
    path of the offending field, as in "filter_chains[0].filters[1].typed_config", "" for the whole.
    """

    def __init__(self, type_url: str, name: str, path: str, reason: str) -> None:
        super().__init__(type_url, name, path, reason)
        self.type_url = type_url
        self.name = name
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        kind = self.type_url.rsplit(".", 1)[-1]
        name = self.name if len(self.name) <= 256 else f"{self.name[:256]}… ({len(self.name)} characters)"
        where = f" at {self.path}" if self.path else ""
        return f"{kind} {name!r}{where}: {self.reason}"


class CompileError(KmeshError):
    """A snapshot that could not be lowered."""


class CapacityExceeded(CompileError):
    """A kernel map cannot hold what the snapshot needs, so the whole snapshot is refused."""

    def __init__(self, map_name: str, needed: int, limit: int) -> None:
        super().__init__(map_name, needed, limit)
        self.map_name = map_name
        self.needed = needed
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"map {self.map_name} needs {self.needed} entries and can hold {self.limit}: "
            "the new configuration is refused and the previous one stays"
        )


class Unsupported(CompileError):
    """A valid feature that nothing here can honour exactly."""

    def __init__(self, feature: str, path: str) -> None:
        super().__init__(feature, path)
        self.feature = feature
        self.path = path

    def __str__(self) -> str:
        return f"{self.feature} at {self.path} is not supported"


class MapError(KmeshError):
    """bpf(2) refused a map operation."""

    def __init__(self, map_name: str, op: str, errno: int) -> None:
        super().__init__(map_name, op, errno)
        self.map_name = map_name
        self.op = op
        self.errno = errno

    def __str__(self) -> str:
        return f"{self.op} on map {self.map_name}: {os.strerror(self.errno)}"


class KernelError(KmeshError):
    """The kernel side could not be set up; the message is one sentence with the remedy."""


class FeatureMissing(KernelError):
    """The running kernel lacks a feature; `min_kernel` is the release that has it, as "5.7"."""

    def __init__(self, feature: str, min_kernel: str, remedy: str) -> None:
        super().__init__(feature, min_kernel, remedy)
        self.feature = feature
        self.min_kernel = min_kernel
        self.remedy = remedy

    def __str__(self) -> str:
        return f"this kernel lacks {self.feature} (Linux {self.min_kernel} has it): {self.remedy}"


class VerifierRejected(KernelError):
    """The verifier refused a program; `log` is its full text."""

    def __init__(self, program: str, log: str) -> None:
        super().__init__(program, log)
        self.program = program
        self.log = log

    def __str__(self) -> str:
        last = self.log.strip().splitlines()[-1:] or ["no log"]
        return f"the kernel's verifier refused program {self.program}: {last[0]} (its log is at --log-level debug)"
