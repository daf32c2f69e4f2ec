"""Certificates for tests, from the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["make_pair", "openssl"]


def openssl(*args: str | Path) -> None:
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


def make_pair(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for `name`, which is also its own authority, and its key."""
    cert, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert),
    )
    return cert, key
