"""Make LeRobot's pi0 importable without the packages it imports but does not compute with.

LeRobot's package imports datasets, torchvision, video and motor libraries at module level; pi0's
inference uses none of them. `install` answers imports of those that are absent with empty modules
whose attributes are empty classes, good enough for annotations, base classes and decorators.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence

UNUSED_BY_PI0 = (
    "PIL",
    "accelerate",
    "av",
    "cv2",
    "datasets",
    "deepdiff",
    "diffusers",
    "gymnasium",
    "imageio",
    "pandas",
    "pyarrow",
    "pynput",
    "rerun",
    "serial",
    "torchcodec",
    "torchvision",
    "tree",
    "wandb",
)


class _Anything(type):
    """An empty class that has every attribute; called by a lower-case name, it decorates."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _anything(name)

    def __call__(cls, *args: object, **kwargs: object) -> object:
        if cls.__name__[:1].islower():
            return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else cls
        return super().__call__(*args, **kwargs)


def _anything(name: str) -> type:
    return _Anything(name, (), {"__init__": lambda self, *args, **kwargs: None})


class _EmptyModule(types.ModuleType):
    __version__ = "0"  # pyarrow, which may be there, asks pandas and does without this one

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _anything(name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def install() -> None:
    """Call after importing transformers (which looks for some of these itself), before lerobot."""
    absent = frozenset(n for n in UNUSED_BY_PI0 if importlib.util.find_spec(n) is None)
    sys.meta_path.append(_Finder(absent))
