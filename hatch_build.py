"""The build hook that compiles the native engine's kernels, and a command that does it in place.

A plain shared library, loaded by ctypes: one wheel a platform serves every Python. Without a C++
compiler the build goes on without it, and the engine says so. `python hatch_build.py` compiles it
where the source tree is used as it stands.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SOURCES = Path("runtime/gidrn_runtime/native")
INSTALLED = "gidrn_runtime/native"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = (
    *("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Wno-psabi"),
)
X86 = ("x86_64", "amd64")
"""What the first part of a compiler's target is called on such machines."""
KERNELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "portable": ("kPortable", ()),
    "avx2": ("kAvx2", ("-mavx2", "-mfma")),
    "avx512": ("kAvx512", ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma")),
}
"""Set of instructions -> its table in kernels.h, and what the compiler wants for it. All but the
first are of x86-64 alone."""

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # compiling in place needs no build system
    BuildHookInterface = object  # type: ignore[assignment, misc]


class NoCompilerError(RuntimeError):
    """There is no C++ compiler here, or none for this platform; the message says which."""


def library_name() -> str:
    """What the compiled kernels are called on this platform."""
    return "libgidrn.dylib" if sys.platform == "darwin" else "libgidrn.so"


def compiler() -> str:
    """The C++ compiler: CXX, or the first of the usual names.

    Raises:
        NoCompilerError: there is none, or the platform is Windows, whose compiler has no vectors of
            the kind that the kernels are written in.
    """
    if sys.platform == "win32":
        raise NoCompilerError("the kernels are written for GCC and Clang, not for MSVC")
    asked = os.environ.get("CXX")
    for name in [asked] if asked else COMPILERS:
        if name and (found := shutil.which(name)):
            return found
    raise NoCompilerError(f"none of {asked or ', '.join(COMPILERS)} is here")


def target(cxx: str) -> str:
    """What a compiler compiles for, such as aarch64-linux-gnu: not always this machine.

    Raises:
        RuntimeError: it does not say.
    """
    return _call([cxx, "-dumpmachine"]).strip()


def compile_library(root: Path, to: Path, extra: Sequence[str] = ()) -> None:
    """Compile the kernels of the tree at `root` into the shared library `to`.

    It is for the compiler's target, so that CXX may name a cross compiler. `extra` goes to each
    call of the compiler.

    Raises:
        NoCompilerError: see `compiler`.
        RuntimeError: the compiler refuses the source; the message is the compiler's.
    """
    cxx = compiler()
    x86 = target(cxx).partition("-")[0] in X86
    folder = root / SOURCES
    with tempfile.TemporaryDirectory() as temporary:
        objects = [Path(temporary) / "network.o"]
        commands = [[cxx, *FLAGS, "-O2", *extra, "-c", str(folder / "network.cpp")]]
        for name, (table, flags) in KERNELS.items():
            if flags and not x86:
                continue
            defined = [f"-DGIDRN_KERNELS={table}", f'-DGIDRN_NAME="{name}"']
            objects.append(Path(temporary) / f"{name}.o")
            commands.append(
                [cxx, *FLAGS, *flags, *defined, *extra, "-c", str(folder / "kernels.cpp")]
            )
        with ThreadPoolExecutor() as pool:
            jobs = zip(commands, objects, strict=True)
            list(pool.map(_call, [[*command, "-o", str(out)] for command, out in jobs]))
        # With its own copy of the C++ library, which small systems lack.
        alone = sys.platform.startswith("linux") and not extra and "clang" not in cxx
        linked = ["-static-libstdc++", "-static-libgcc"] if alone else []
        made = Path(temporary) / to.name
        _call([cxx, "-shared", "-pthread", *extra, *linked, *map(str, objects), "-o", str(made)])
        to.parent.mkdir(parents=True, exist_ok=True)
        beside = to.with_name(f"{to.name}.{os.getpid()}.tmp")
        shutil.copyfile(made, beside)
        os.replace(beside, to)  # a process that has the old one loaded keeps it


def _call(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def check_for_here(cxx: str) -> None:
    """Raise RuntimeError where a compiler compiles for machines of another kind than this one."""
    made_for = target(cxx)
    if _family(made_for.partition("-")[0]) != _family(platform.machine()):
        raise RuntimeError(
            f"{cxx} compiles for {made_for}, and this is {platform.machine()}: to cross-compile "
            "the library alone, python hatch_build.py OUT"
        )


def _family(machine: str) -> str:
    name = machine.lower()
    if name in X86 or name in ("i386", "i486", "i586", "i686"):
        return "x86"
    return "arm" if name.startswith(("arm", "aarch64")) else name


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles for wheels, and in place for editable installs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it packs; `version` is "editable" or "standard"."""
        root = Path(self.root)
        editable = version == "editable"
        folder = root / SOURCES if editable else root / "build" / "native"
        library = folder / library_name()
        try:
            check_for_here(compiler())
            compile_library(root, library)
        except NoCompilerError as error:
            self.app.display_warning(f"built without the engine `native`: {error}")
            return
        if editable:
            return
        build_data["force_include"][str(library)] = f"{INSTALLED}/{library.name}"
        build_data["pure_python"] = False
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{tag}"


def main(arguments: Sequence[str]) -> None:
    """Compile in place, for this machine; or into the file that `arguments` names, for any."""
    project = Path(__file__).resolve().parent
    if arguments:
        compile_library(project, Path(arguments[0]))
        return
    check_for_here(compiler())
    compile_library(project, project / SOURCES / library_name())


if __name__ == "__main__":
    main(sys.argv[1:])
