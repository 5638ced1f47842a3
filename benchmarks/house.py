"""Size and structure of a checkout: `python -m benchmarks.house [CHECKOUT ...]`.

Counts lines and modules per part, circles among the package's imports (imports for type checking
and within functions included), and device branches in the layers of the model. Each CHECKOUT is a
folder with `pi0_ros/` in it; by default this one.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterable
from pathlib import Path

from pi0_ros import console

PARTS = {
    "installed package": ("pi0_ros",),
    "benchmarks and examples": ("benchmarks", "examples"),
    "tests": ("test",),
}
BRANCH = re.compile(
    r"\bon_npu\(|\bif (self|model)\.is_prepared|\bif [\w.]*\brows\b|\.device\.type =="
)
LAYERS = ("gemma", "siglip", "vision", "pi0", "linear", "layers")


def modules(checkout: Path, folders: Iterable[str]) -> dict[str, Path]:
    """Dotted name -> file of every module under some folders."""
    found = {}
    for folder in folders:
        for file in sorted((checkout / folder).rglob("*.py")):
            parts = file.relative_to(checkout).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(files: dict[str, Path]) -> dict[str, set[str]]:
    """Module -> the modules among `files` that it imports, anywhere in its text."""
    result = {}
    for name, file in files.items():
        found = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found.add(full if full in files else str(node.module))
        result[name] = found & set(files) - {name}
    return result


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                groups.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return groups


def figures(checkout: Path) -> dict[str, str]:
    """Figure -> value of one checkout."""
    result = {}
    for part, folders in PARTS.items():
        files = modules(checkout, folders).values()
        lines = sum(len(file.read_text().splitlines()) for file in files)
        result[part] = f"{lines:,} lines, {len(files)} modules"
    package = modules(checkout, ["pi0_ros"])
    groups = circles(imports(package))
    result["import circles"] = f"{len(groups)} (of {sum(map(len, groups))} modules)"
    layers = (package.get(f"pi0_ros.model.{name}") for name in LAYERS)
    branches = sum(len(BRANCH.findall(file.read_text())) for file in layers if file)
    result["device branches in the layers"] = str(branches)
    return result


def main() -> None:
    """Print one column per checkout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house", description=__doc__)
    parser.add_argument("checkout", nargs="*", type=Path, default=[Path()])
    checkouts = parser.parse_args().checkout
    columns = [figures(checkout) for checkout in checkouts]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    print(console.table(rows, ("", *map(str, checkouts))))


if __name__ == "__main__":
    main()
