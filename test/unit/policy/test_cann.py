"""What keeps torch_npu from being imported, on machines pretended by files and variables."""

import ctypes
from collections.abc import Callable
from importlib import machinery, metadata, util
from pathlib import Path

import pytest
import torch

from pi0_ros.policy import cann

RELEASE = ".".join(torch.__version__.split("+")[0].split(".")[:2])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where CANN would be; a torch_npu that fits is installed, CANN is not."""
    for name in (*cann.HOME_VARIABLES, "ASCEND_OPP_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cann, "_ROOTS", (tmp_path / "Ascend", tmp_path / "home" / "Ascend"))
    monkeypatch.setattr(cann, "_pip_folder", lambda: tmp_path / "site-packages" / "ascend")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))
    spec = machinery.ModuleSpec("torch_npu", None)
    monkeypatch.setattr(util, "find_spec", lambda name: spec)
    monkeypatch.setattr(metadata, "version", lambda name: f"{RELEASE}.0.post2")
    return tmp_path


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes loading CANN's runtime fail with a message of the dynamic linker, or succeed."""

    def make(message: str) -> None:
        def load(name: str) -> None:
            assert name == "libascendcl.so"
            if message:
                raise OSError(message)

        monkeypatch.setattr(ctypes, "CDLL", load)

    return make


MISSING = "libascendcl.so: cannot open shared object file: No such file or directory"


def test_in_order(root: Path, loader, monkeypatch: pytest.MonkeyPatch) -> None:
    loader("")
    assert cann.problem() is None
    for folder in ("toolkit", "toolkit/opp"):
        (root / folder).mkdir()
    monkeypatch.setenv("ASCEND_HOME_PATH", str(root / "toolkit"))
    monkeypatch.setenv("ASCEND_OPP_PATH", str(root / "toolkit" / "opp"))
    assert cann.problem() is None


@pytest.mark.parametrize("how", ["version", "library"])
def test_a_build_for_cuda_is_known_by_its_version_or_its_library(
    root: Path, loader, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    loader("")
    if how == "version":
        monkeypatch.setattr(torch.version, "cuda", "13.0")
    else:
        (root / "torch" / "lib").mkdir(parents=True)
        (root / "torch" / "lib" / "libtorch_cuda.so").touch()
    problem = cann.problem()
    assert problem is not None and "is the build for CUDA" in problem and "whl/cpu" in problem


def test_an_older_release_stands_a_build_for_cuda(
    root: Path, loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader("")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch, "__version__", "2.9.0+cu128")
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.0.post6")
    assert cann.problem() is None


SCRIPTS = [
    "Ascend/cann/set_env.sh",
    "Ascend/ascend-toolkit/set_env.sh",
    "home/Ascend/cann/set_env.sh",
    "home/Ascend/ascend-toolkit/set_env.sh",
    "site-packages/ascend/cann-9.1.0/set_env.sh",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_installed_cann_that_is_not_sourced_is_found(root: Path, loader, script: str) -> None:
    loader(MISSING)
    assert cann.problem() == (
        "CANN is not installed, or not where it is looked for; see docs/ascend.md"
    )
    (root / script).parent.mkdir(parents=True)
    (root / script).touch()
    assert cann.problem() == f"CANN is installed but not sourced: source {root / script}"


@pytest.mark.parametrize("name", cann.HOME_VARIABLES)
def test_a_sourced_cann_that_is_not_there(
    root: Path, loader, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    loader("")
    monkeypatch.setenv(name, str(root / "gone"))
    assert f"{name} is {root / 'gone'}, which is not there" in (cann.problem() or "")


def test_a_sourced_cann_that_is_not_whole(
    root: Path, loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch_npu itself refuses with a plain Exception."""
    loader("")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(root))
    assert "ASCEND_OPP_PATH names no folder of operators" in (cann.problem() or "")
    monkeypatch.setenv("ASCEND_OPP_PATH", str(root))
    loader(MISSING)
    assert "but libascendcl.so is not" in (cann.problem() or "")


def test_a_driver_that_is_not_there(root: Path, loader) -> None:
    loader("libascend_hal.so: cannot open shared object file: No such file or directory")
    problem = cann.problem()
    assert problem is not None
    assert "libascend_hal.so: cannot open" in problem and "driver must be mounted" in problem


LAYOUTS = {
    "CANN 8": ("ascend-toolkit/8.3.RC1/compiler/version.info", "Version=8.3.RC1"),
    "CANN 8, one file": ("ascend-toolkit/8.3.RC1/version.cfg", "version=[8.3.RC1]"),
    "CANN 9": ("cann-9.1.0/share/info/runtime/version.info", "Version=9.1.0"),
    "CANN 8.5": ("cann-8.5.0/x86_64-linux/ascend_toolkit_install.info", "version=8.5.0"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variable", cann.HOME_VARIABLES)
def test_the_version_in_each_layout(
    root: Path, monkeypatch: pytest.MonkeyPatch, layout: str, variable: str
) -> None:
    assert cann.version() == "" and cann.short_version() == ""
    name, text = LAYOUTS[layout]
    file = root / name
    file.parent.mkdir(parents=True)
    file.write_text(text + "\n")
    home = next(folder for folder in file.parents if folder.name[-1].isdigit())
    link = root / "latest"
    link.symlink_to(home)
    monkeypatch.setenv(variable, str(link))
    assert cann.version().startswith(str(home)) and text in cann.version()
    assert cann.short_version() == text.partition("=")[2].strip("[]")


def test_the_version_behind_a_link_that_moved(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of cached graphs must change with what `latest` points to."""
    link, seen = root / "latest", set()
    monkeypatch.setenv("ASCEND_HOME_PATH", str(link))
    for number in ("9.0.0", "9.1.0"):
        (root / f"cann-{number}").mkdir()
        link.unlink(missing_ok=True)
        link.symlink_to(root / f"cann-{number}")
        seen.add(cann.version())
    assert len(seen) == 2


def test_the_version_of_a_runtime_that_no_variable_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where /etc/ld.so.conf names CANN."""
    home = root / "cann-9.1.0"
    (home / "share" / "info" / "runtime").mkdir(parents=True)
    (home / "share" / "info" / "runtime" / "version.info").write_text("Version=9.1.0")
    mapped = f"7f00 r-xp 00000000 00:1f 9 {home}/x86_64-linux/lib64/libascendcl.so\n"
    real = Path.read_text

    def read_text(path: Path, **options: str) -> str:
        return mapped if str(path) == "/proc/self/maps" else real(path, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert cann.short_version() == "9.1.0"
