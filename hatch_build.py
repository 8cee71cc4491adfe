"""The compiled engine: mypyc turns the modules that every message passes into machine code, from their own source.

    HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 pip install .

Without that variable nothing here runs, and the wheel is pure Python.  hatch-mypyc, which would do the same, takes
all packages to lie in one source root, and leaves its products among the sources, where a checkout would go on
importing them after the sources have changed; here all of it happens in a scratch directory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SETUP = """
from mypyc.build import mypycify
from setuptools import setup

setup(ext_modules=mypycify({arguments!r}, opt_level="3", group_name="dot_proto"))
"""


def bill_of_materials(version: str) -> dict[str, Any]:
    """What a compiled wheel contains that is not in the sources here (PEP 770): mypyc's run-time, compiled in.

    CycloneDX 1.6, without its optional serial number and time, which would differ from build to build.
    """
    own, mypy = component("dot-proto", version), component("mypy", distribution("mypy").version)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": [mypy],
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": [mypy["bom-ref"]]}, {"ref": mypy["bom-ref"]}],
    }


def component(name: str, version: str) -> dict[str, str]:
    """A library, as CycloneDX describes it."""
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


class CompiledEngine(BuildHookInterface[Any]):
    """Adds extension modules beside the Python modules of the same name, which Python then prefers."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have what comes of it put into the wheel."""
        if version == "editable":
            raise ValueError("an editable install runs the sources as they are: install without -e to compile them")
        modules = [f"dot_proto/{name}.py" for name in self.config["modules"]]
        self._scratch = TemporaryDirectory()
        scratch = Path(self._scratch.name)
        shutil.copytree(Path(self.root, "dot_proto"), scratch / "dot_proto")
        (scratch / "setup.py").write_text(SETUP.format(arguments=["--strict", *modules]), encoding="utf-8")
        command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "built"]
        # Debug information and assertions would name this build's directories: no two wheels would be the same.
        run_time = Path(str(distribution("mypy").locate_file("mypyc")))
        flags = [os.environ.get("CFLAGS", ""), f"-ffile-prefix-map={scratch}=.", f"-ffile-prefix-map={run_time}=mypyc"]
        subprocess.run(command, cwd=scratch, check=True, env=os.environ | {"CFLAGS": " ".join(flags)})
        built = scratch / "built"
        for path in built.rglob("*"):
            if path.is_file():
                build_data["force_include"][str(path)] = str(path.relative_to(built))
        materials = scratch / "dot_proto.cdx.json"
        materials.write_text(json.dumps(bill_of_materials(self.metadata.version), indent=2) + "\n", encoding="utf-8")
        build_data["sbom_files"].append(str(materials))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written: what it was made of can go."""
        self._scratch.cleanup()
