"""Build hook: compile `kernels.cpp` once for each instruction set, where there is a C++ compiler; optional.

The library has a plain C interface and links neither Python nor torch, so one wheel a platform serves all versions of
both. Without a compiler the build goes on, and foretune runs its plain torch code.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/foretune/models")
COMMON = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma")
FLAVOURS = {
    "kernels_plain.so": (),
    "kernels_avx2.so": ("-mavx2", "-mfma"),
    "kernels_avx512.so": AVX512,
    "kernels_avx512bf16.so": (*AVX512, "-mavx512bf16"),
}
X86 = ("x86_64", "AMD64")
SECONDS = 300  # a compiler that takes longer hangs


class KernelsHook(BuildHookInterface):
    """Compiles in place, for wheels and editable installs alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile and add the libraries to the wheel; a wheel that holds them is one platform's."""
        if self.target_name != "wheel" or os.environ.get("FORETUNE_BUILD_KERNELS", "").lower() in ("0", "off", "no"):
            return
        folder = Path(self.root) / FOLDER
        built = _compiled(folder)
        if built and version != "editable":
            build_data["artifacts"] += [f"/{FOLDER}/{name}" for name in built]
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _compiled(folder: Path) -> list[str]:
    """Names of the libraries that could be built; what is left of an older build goes."""
    for name in FLAVOURS:
        (folder / name).unlink(missing_ok=True)
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("c++") or shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        print("foretune: no C++ compiler, so no fused kernels", file=sys.stderr)
        return []
    names = FLAVOURS if platform.machine() in X86 else {"kernels_plain.so": ()}
    return [name for name, flags in names.items() if _compile(compiler, folder, name, flags)]


def _compile(compiler: str, folder: Path, name: str, flags: tuple[str, ...]) -> bool:
    """Into a file of its own that is moved into place whole: another process may have the old one open."""
    for threads in (("-fopenmp",), ()):
        target = folder / f".{name}.{os.getpid()}"
        command = [compiler, *COMMON, *threads, *flags, str(folder / "kernels.cpp"), "-o", str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"foretune: {name} not built: {error}", file=sys.stderr)
            return False
        if done.returncode == 0:
            target.replace(folder / name)
            return True
        target.unlink(missing_ok=True)
    print(f"foretune: {name} not built: {done.stderr.strip()[:500]}", file=sys.stderr)
    return False
