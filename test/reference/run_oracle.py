"""Runs one version of LeRobot: `python -m reference.run_oracle 0.4.4 CASES.json OUT`.

LeRobot imports packages that its pi0 does not compute with. Stand-ins for them have to be there
before it is imported, and after transformers, which looks for some of the same packages.
"""

import importlib
import sys

import transformers.models.gemma.modeling_gemma
import transformers.models.paligemma.modeling_paligemma  # noqa: F401
from reference import oracle_common  # noqa: F401

from benchmarks.race import peer_gemma, peer_stubs

MODULES = {
    "0.6.1": "reference.oracle_new",
    "0.4.4": "reference.oracle_new",
    "0.3.3": "reference.oracle_old",
}


def main(version: str, *arguments: str) -> None:
    if version == "0.4.4":
        peer_gemma.apply()
    peer_stubs.install()
    importlib.import_module(MODULES[version]).run(arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
