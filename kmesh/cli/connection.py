"""Talks to a bridge's admin API. Every failure comes out as a ConfigError or KmeshError of one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from grpclib import GRPCError
from grpclib.client import Channel
from grpclib.const import Status as Code
from grpclib.exceptions import StreamTerminatedError

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.errors import ConfigError, KmeshError

__all__ = ["fetch_explanation", "fetch_status", "fetch_version", "stream_dump"]

_ANSWER_TIMEOUT_S = 10.0


async def fetch_version(path: Path) -> pb.Version:
    with _open(path) as stub:
        return await stub.get_version(pb.GetVersionRequest(), timeout=_ANSWER_TIMEOUT_S)


async def fetch_status(path: Path) -> pb.Status:
    with _open(path) as stub:
        return await stub.get_status(pb.GetStatusRequest(), timeout=_ANSWER_TIMEOUT_S)


async def fetch_explanation(path: Path, request: pb.ExplainRequest) -> pb.Explanation:
    with _open(path) as stub:
        return await stub.explain(request, timeout=_ANSWER_TIMEOUT_S)


async def stream_dump(path: Path, request: pb.DumpRequest) -> AsyncIterator[str]:
    """The document in chunks; the bridge renders the next when this one has been taken."""
    with _open(path) as stub:
        chunks = stub.dump(request)
        while True:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk.text


@contextmanager
def _open(path: Path) -> Iterator[pb.AdminStub]:
    """A stub, connected when first used; what goes wrong with it is said in the caller's terms."""
    channel = Channel(path=str(path))
    try:
        yield pb.AdminStub(channel)
    except GRPCError as error:
        raise _explain(error) from error
    except TimeoutError as error:
        raise KmeshError(f"the bridge at {path} did not answer in {_ANSWER_TIMEOUT_S:.0f} s: see its log") from error
    except StreamTerminatedError as error:
        raise KmeshError(f"the bridge at {path} ended the connection: see its log") from error
    except PermissionError as error:
        raise ConfigError(f"{path} belongs to another user: run kmeshctl as the user of the bridge") from error
    except OSError as error:
        raise ConfigError(
            f"no bridge answers at {path}: start one with 'python -m kmesh.bridge', "
            "or choose another with --instance or --socket"
        ) from error
    finally:
        channel.close()


def _explain(error: GRPCError) -> KmeshError:
    match error.status:
        case Code.INVALID_ARGUMENT:
            return ConfigError(error.message or "the bridge refuses this request")
        case Code.UNIMPLEMENTED:
            return KmeshError("the bridge does not know this request: it is older than this kmeshctl")
        case Code.INTERNAL if error.message:
            return KmeshError(error.message)
        case _:
            return KmeshError("the bridge failed on this request: see its log")
