"""Stand-ins for the libraries of CANN, so that the real torch_npu imports on any machine.

torch_npu is an ordinary wheel, but its shared objects are linked against CANN, which comes with the
driver of the NPU. Here every function they miss is generated, compiled and loaded: those of
device.c work on host memory, the others report an error. That is enough to trace a model for the
NPU and to lower it to a graph; nothing can be computed with it.
"""

import ctypes
import importlib.util
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pi0_ros.errors import UserError

DEVICE = Path(__file__).with_name("device.c")
ALLOCATOR = Path(__file__).with_name("allocator.cpp")
MAIN_LIBRARY = "libascendcl.so"
ERROR = 500000  # ACL_ERROR_INTERNAL_ERROR
STAMP = "stand-ins.json"
_SYSTEM = re.compile(r"(ld-linux|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|gomp|python[\d.]+)\.so)")
# Functions that make or end something, report, or belong to the C++ graph engine, which stays off.
_HARMLESS = re.compile(r"acl(op|tdt)?(Create|Destroy)|acl(Finalize|AppLog|GetRecent)|Msprof|_ZN")


class StandInsError(UserError, RuntimeError):
    """The stand-ins cannot be made here; the message says what to do."""


def load(folder: Path | None = None) -> None:
    """Make `import torch_npu` work in this process, which must not have imported torch yet.

    Args:
        folder: where to keep the compiled libraries for later processes; a temporary one by
            default, in which case they are compiled anew (a few seconds).

    Raises:
        StandInsError: torch_npu or the C compiler is missing.
    """
    # Plain `import torch` would import torch_npu by itself, before it can succeed.
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    # Operators are dispatched by the calling thread, so that their errors are seen.
    os.environ["TASK_QUEUE_ENABLE"] = "0"
    if folder is not None:
        _load_from(build(folder))
        return
    with tempfile.TemporaryDirectory(prefix="pi0_stand_ins_") as temporary:
        _load_from(build(Path(temporary)))


def build(folder: Path) -> Path:
    """Compile the stand-ins for the installed torch_npu into a folder, unless they are there.

    Returns:
        The folder.
    """
    npu, torch = _package("torch_npu"), _package("torch")
    objects = sorted(npu.rglob("*.so"))
    stamp = {
        "torch_npu": (npu / "version.py").read_text(),
        "torch": (torch / "version.py").read_text(),
        "source": DEVICE.read_text() + ALLOCATOR.read_text() + Path(__file__).read_text(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if _read(folder / STAMP) == stamp:
        return folder
    bundled = [*objects, *(torch / "lib").glob("*.so*")]
    device = folder / "device.o"
    _run("cc", "-c", "-fPIC", "-w", "-O1", "-o", device, DEVICE)
    defined = _symbols("--defined-only", [device, *bundled])
    missing = _symbols("--undefined-only", objects) - defined
    lines = [f"long {name}(void) {{ return {_result(name)}; }}" for name in sorted(missing)]
    source = folder / "missing.c"
    source.write_text("\n".join(lines) + "\n")
    _shared(folder / MAIN_LIBRARY, source, device)
    if (torch / "lib" / "libtorch_cuda.so").exists():
        _run("c++", "-shared", "-fPIC", "-std=c++17", "-o", folder / "allocator.so", ALLOCATOR)
    # Looking a function up in any of the others must find it in the first.
    rest = ("-Wl,--no-as-needed", f"-L{folder}", f"-l:{MAIN_LIBRARY}")
    for name in _needed(objects) - {path.name for path in bundled} - {MAIN_LIBRARY}:
        _shared(folder / name, *rest)
    (folder / STAMP).write_text(json.dumps(stamp))
    return folder


def _load_from(folder: Path) -> None:
    names = sorted(path.name for path in folder.glob("*.so"))
    for name in [MAIN_LIBRARY, *(name for name in names if name != MAIN_LIBRARY)]:
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)


def _package(name: str) -> Path:
    """Folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise StandInsError(
            f"{name} is not installed for this Python. It is needed to lower the model for Ascend; "
            "no NPU and no CANN are: pip install torch==2.13.0 && "
            "pip install --no-deps torch_npu==2.13.0"
        )
    return Path(spec.origin).parent


def _result(name: str) -> int:
    return 0 if _HARMLESS.match(name) else ERROR


def _symbols(which: str, files: Iterable[Path]) -> set[str]:
    """Names of the dynamic symbols of libraries, or of all symbols of object files.

    A name with a version (memcpy@GLIBC_2.14) comes from the system and is left out, and so is
    Python's own.
    """
    names = set()
    for file in files:
        table = [] if file.suffix == ".o" else ["-D"]
        for line in _run("nm", *table, which, "--format=posix", file).splitlines():
            name, kind = line.split()[:2]
            wanted = kind == "U" if which == "--undefined-only" else kind.upper() in "TWDRBVI"
            if wanted and "@" not in name and not re.match("_?Py", name):
                names.add(name)
    return names


def _needed(files: Iterable[Path]) -> set[str]:
    """Sonames that libraries ask for and that are not the system's."""
    text = "".join(_run("readelf", "-d", file) for file in files)
    return {n for n in re.findall(r"\(NEEDED\).*\[(.*)\]", text) if not _SYSTEM.match(n)}


def _shared(path: Path, *inputs: Path | str) -> None:
    _run("cc", "-shared", "-fPIC", "-w", "-O1", f"-Wl,-soname,{path.name}", "-o", path, *inputs)


def _run(*command: Path | str) -> str:
    try:
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    except FileNotFoundError as error:
        raise StandInsError(
            f"{command[0]} is not installed; a C and C++ compiler with its binutils is needed, "
            "such as Debian's g++"
        ) from error
    if result.returncode:
        raise StandInsError(f"{' '.join(map(str, command))} failed:\n{result.stderr}")
    return result.stdout


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None
