"""How many instructions the verifier walked for each program on this kernel, as JSON: {program: instructions}."""

from __future__ import annotations

import json

from kmesh.kernel.features import probe_features
from kmesh.kernel.paths import InstancePaths
from kmesh.kernel.programs import load
from tests.support.sandbox import BPFFS, Sandbox


def main() -> None:
    with Sandbox() as sandbox:
        build = load(InstancePaths(bpffs=BPFFS, instance=sandbox.instance), probe_features())
        print(json.dumps({name: info.verified_insns for name, info in build.program_infos().items()}))


if __name__ == "__main__":
    main()
