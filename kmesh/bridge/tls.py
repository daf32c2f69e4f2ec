"""The TLS side of the connection to the control plane, from the files that the settings name."""

from __future__ import annotations

import ssl
from pathlib import Path

from kmesh.bridge.settings import Settings
from kmesh.errors import ConfigError

__all__ = ["build_ssl_context"]


def build_ssl_context(settings: Settings) -> ssl.SSLContext:
    """A client context that verifies the server's certificate and name and offers h2. `settings.tls` is set.

    Reads the files anew at each call, so a rotated certificate is taken up by the next connection.

    Raises: ConfigError naming the option whose file is missing or does not serve.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])  # gRPC over HTTP/2 wants it negotiated: RFC 9113 section 3.2
    _load_authorities(context, settings.tls_ca)
    if settings.tls_cert and settings.tls_key:
        _load_pair(context, settings.tls_cert, settings.tls_key)
    return context


def _load_authorities(context: ssl.SSLContext, ca: Path | None) -> None:
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    _check_readable("--tls-ca", ca)
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError:
        raise ConfigError(f"--tls-ca {ca} holds no certificate: give a PEM file of the authorities") from None


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    _check_readable("--tls-cert", cert)
    _check_readable("--tls-key", key)
    try:
        context.load_cert_chain(cert, key, password="")  # an encrypted key fails instead of prompting
    except ssl.SSLError as e:
        if e.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"--tls-key {key} is not the key of --tls-cert {cert}: give one pair") from None
        reason = (e.reason or "not PEM").replace("_", " ").lower()
        raise ConfigError(
            f"--tls-cert {cert} and --tls-key {key} cannot be loaded ({reason}): "
            "give a PEM certificate chain and its unencrypted PEM key"
        ) from None


def _check_readable(option: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as e:
        raise ConfigError(f"cannot read {option} {path} ({e.strerror}): correct the path or its mode") from None
