"""How many instructions the verifier walked for each program on this kernel, as JSON: {program: instructions}.

The matcher is counted in the programs of tests/support/match_harness.c.
"""

from __future__ import annotations

import json

from kmesh.kernel.features import probe_features
from kmesh.kernel.paths import InstancePaths
from kmesh.kernel.programs import load
from tests.support.match_harness import MatchHarness
from tests.support.sandbox import BPFFS, Sandbox


def main() -> None:
    with Sandbox() as sandbox:
        paths = InstancePaths(bpffs=BPFFS, instance=sandbox.instance)
        build = load(paths, probe_features())
        counts = {name: info.verified_insns for name, info in build.program_infos().items()}
        matcher = MatchHarness(build.maps_dir, paths.root / "match-harness")
        print(json.dumps(counts | matcher.verified_instructions()))


if __name__ == "__main__":
    main()
