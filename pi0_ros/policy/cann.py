"""CANN, Ascend's toolkit: where it is, its version, and why torch_npu cannot be imported.

Nothing here imports torch_npu, whose import ends the process, or raises one of several errors that
name no remedy, where something does not fit.
"""

import ctypes
import os
import re
import sysconfig
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import torch

HOME_VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
"""What set_env.sh of CANN sets; CANN 8 sets both, CANN 9 and torch_npu know the first."""

RUNTIME = "libascendcl.so"
_ROOTS = (Path("/usr/local/Ascend"), Path.home() / "Ascend")
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Since this release both register an allocator's setting of one name, which ends the process.
_NO_CUDA_BESIDE = (2, 10)
_VERSION_FILES = (
    "version.cfg",
    "*/version.info",
    "share/info/*/version.info",
    "*-linux/ascend_*_install.info",
)


def problem() -> str | None:
    """Why torch_npu cannot be imported here, in a sentence or two; None if it can."""
    wanted = _release(torch.__version__)
    if util.find_spec("torch_npu") is None:
        return (
            "torch_npu is not installed in this Python. Install the release that pairs with torch "
            f"{wanted}: pip install 'torch_npu=={wanted}.*' (docs/ascend.md has the pairs with "
            "CANN)"
        )
    installed = metadata.version("torch_npu")
    release = _release(installed)
    if release != wanted:
        return (
            f"torch_npu {installed} does not pair with torch {torch.__version__}: both must be of "
            f"the same release; pip install 'torch=={release}.*' --index-url {_CPU_INDEX}"
        )
    if _is_cuda_build() and tuple(map(int, release.split("."))) >= _NO_CUDA_BESIDE:
        return (
            f"torch {torch.__version__} is the build for CUDA, and torch_npu {installed} ends the "
            "process beside it (both register pinned_reserve_segment_size_mb). Install the build "
            f"for CPU: pip install 'torch=={release}.*' --index-url {_CPU_INDEX}"
        )
    return _cann_problem()


def version() -> str:
    """Where CANN is, and the text of its version files; empty where there is none."""
    home = _home()
    if home is None:
        return ""
    # A release may stand behind the link `latest` or `cann`.
    home = home.resolve()
    texts = [file.read_text(errors="replace") for file in sorted(set(_version_files(home)))]
    return "\n".join((str(home), *texts))


def short_version() -> str:
    """Such as `9.1.0`, for people; empty where it is not known."""
    found = re.search(r"^(?:Version|version)\s*=\s*\[?([\w.]+)", version(), re.M)
    return found[1] if found else ""


def _is_cuda_build() -> bool:
    """Whether torch is a build for CUDA, by itself or by a library that it brings."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cuda.so"
    return torch.version.cuda is not None or library.exists()


def _cann_problem() -> str | None:
    """Why CANN's runtime cannot be loaded, or will be refused by torch_npu."""
    named = next((name for name in HOME_VARIABLES if os.environ.get(name)), None)
    if named is not None:
        home = Path(os.environ[named])
        if not home.is_dir():
            return f"{named} is {home}, which is not there. {_advice()}"
        operators = os.environ.get("ASCEND_OPP_PATH")
        if named == "ASCEND_HOME_PATH" and not (operators and Path(operators).is_dir()):
            return (
                f"CANN's toolkit is in {home}, but ASCEND_OPP_PATH names no folder of "
                "operators: install the package of operators for the card (ascend-cann-910b-ops, "
                f"in docs/ascend.md), and source {home}/set_env.sh"
            )
    try:
        # It has to be there for torch_npu anyway, and is the one library that all of CANN has.
        ctypes.CDLL(RUNTIME)
    except OSError as error:
        if RUNTIME in str(error) and named is None:
            return _advice()
        if RUNTIME in str(error):
            return f"CANN is said to be in {os.environ[named]}, but {RUNTIME} is not: {_advice()}"
        return (
            f"CANN cannot be loaded: {error}. Libraries of the driver (libascend_hal.so, "
            "libdrvdsmi_host.so) are in /usr/local/Ascend/driver/lib64 and its subfolders, which "
            "LD_LIBRARY_PATH must name; in a container the driver must be mounted (docs/ascend.md)"
        )
    return None


def _advice() -> str:
    """What to do where CANN is not set up in this shell."""
    scripts = list(_scripts())
    if scripts:
        return f"CANN is installed but not sourced: source {scripts[0]}"
    return "CANN is not installed, or not where it is looked for; see docs/ascend.md"


def _scripts() -> Iterator[Path]:
    """The set_env.sh of every CANN that is found, the newest layout first."""
    for root in _ROOTS:
        for folder in ("cann", "ascend-toolkit"):
            if (script := root / folder / "set_env.sh").is_file():
                yield script
    # By pip, one folder per version.
    yield from sorted(_pip_folder().glob("cann-*/set_env.sh"), reverse=True)


def _pip_folder() -> Path:
    return Path(sysconfig.get_path("purelib")) / "ascend"


def _home() -> Path | None:
    """CANN's folder: what was sourced, or where its runtime was loaded from."""
    for name in HOME_VARIABLES:
        if os.environ.get(name):
            return Path(os.environ[name])
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    loaded = re.search(rf"(/\S*)/{re.escape(RUNTIME)}", maps)
    if loaded is None:
        return None
    folder = Path(loaded[1])
    # .../cann-9.1.0/lib64, .../cann-9.1.0/x86_64-linux/lib64, .../latest/runtime/lib64
    return next((parent for parent in folder.parents if any(_version_files(parent))), folder)


def _version_files(home: Path) -> Iterator[Path]:
    for pattern in _VERSION_FILES:
        yield from filter(Path.is_file, home.glob(pattern))


def _release(text: str) -> str:
    """`2.13.0+cpu` -> `2.13`."""
    return ".".join(text.split("+")[0].split(".")[:2])
