"""The real kernel, for tests of the relay's parts that work with its maps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kmesh.kernel.features import probe_features
from tests.kernel.conftest import Kernel, open_kernel
from tests.support.sandbox import Sandbox


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Sandbox() as sandbox:
        yield open_kernel(sandbox, probe_features())
