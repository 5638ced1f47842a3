"""The documentation: links lead somewhere, the site has all pages, generated ones are new."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from support import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
SOURCES = [*PAGES, *(ROOT / name for name in ("README.md", "DEVELOPERS.md"))]
SOURCES += [ROOT / "benchmarks" / "README.md", *sorted((ROOT / "examples").glob("*/README.md"))]
_CODE = re.compile(r"```.*?```|`[^`\n]*`|(?:^(?: {4}|\t).*\n)+", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def module(name: str) -> ModuleType:
    """A program of docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def anchors(page: Path) -> set[str]:
    """Of the headings, as MkDocs and git hosts make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    plain = (re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()) for h in headings)
    return {h.strip().replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = _CODE.sub("", page.read_text())
    for target in _LINK.findall(text):
        if re.match(r"(https?|mailto):", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        assert file.is_relative_to(ROOT), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{target}: no such heading in {file.name}"


def test_the_site_has_every_page_once() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def names(entries: list) -> list[str]:
        values = [value for entry in entries for value in entry.values()]
        return [n for v in values for n in (names(v) if isinstance(v, list) else [v])]

    assert sorted(names(site["nav"])) == [page.name for page in PAGES]


def test_every_page_of_the_site_is_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [page.name for page in PAGES if f"docs/{page.name}" not in readme]
    assert set(missing) <= {"index.md"}


def test_generated_pages_are_up_to_date() -> None:
    assert (DOCS / "parameters.md").read_text() == module("parameters").page(), "make docs"
    for page in PAGES:
        assert module("files").with_files(page.read_text()) == page.read_text(), "make docs"


def test_both_first_pages_have_the_same_status_table() -> None:
    def table(page: Path) -> str:
        text = page.read_text().replace("](docs/", "](")
        return text[text.index("| | run? |") :].partition("\n\n")[0]

    assert table(ROOT / "README.md") == table(DOCS / "index.md")
    assert table(ROOT / "README.md").count("\n") >= 8


def test_the_readme_fits_a_screen_and_keeps_its_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 100
    for words in ("make demo", "make test", "make docs", "pi0 doctor", "/pi0/enable"):
        assert words in readme


def test_links_out_of_docs_become_paths_on_the_site() -> None:
    shown = module("hooks").on_page_markdown
    assert shown("[`config/pi0.yaml`](../config/pi0.yaml)") == "`config/pi0.yaml`"
    assert shown("[`a.yaml`](../b/a.yaml)") == "`b/a.yaml`"
    assert shown("[its card](../a/README.md#x)") == "its card (`a/README.md#x`)"
    assert shown("the [README](../README.md)") == "the [README](index.md)"
    assert shown("[motion](motion.md)") == "[motion](motion.md)"


def test_the_page_on_distributions_and_the_workflow_name_the_same() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ros.yml").read_text())
    matrix = workflow["jobs"]["industrial_ci"]["strategy"]["matrix"]["include"]
    page = (DOCS / "distributions.md").read_text()
    header = next(line for line in page.splitlines() if line.startswith("| |"))
    assert [row["distro"] for row in matrix] == header.lower().replace("|", " ").split()
    row = next(line for line in page.splitlines() if line.startswith("| NumPy"))
    pinned = ["<2" in cell for cell in row.split("|")[2:-1]]
    assert pinned == ["<2" in entry["numpy"] for entry in matrix]


def test_bloom_can_release_it() -> None:
    """The changelog in its form, and no large file."""
    changelog = pytest.importorskip("catkin_pkg.changelog").get_changelog_from_path(
        str(ROOT / "CHANGELOG.rst")
    )
    assert [version for version, _, _ in changelog.foreach_version()] == ["0.1.0", "0.2.0"]
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    files = [ROOT / name for name in tracked.split("\0") if name]
    assert not [f.name for f in files if f.is_file() and f.stat().st_size > 3_000_000]


def test_pictures_are_made_by_commands_of_the_docs() -> None:
    text = "".join(page.read_text() for page in SOURCES) + (ROOT / "Makefile").read_text()
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)  # where they are shown
    for picture in (*DOCS.glob("*.png"), *DOCS.glob("*.gif")):
        written = (f"docs/{picture.name}", f"'{picture.stem}'")
        assert any(name in text for name in written), picture.name
