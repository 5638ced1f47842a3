"""The node's ROS arguments, written and read without ROS: parameter files, -p and -r.

Commands that work on recordings need no ROS. What is read here is read as rcl does it (a test
compares the two); everything else is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi0_ros.errors import UserError
from pi0_ros.plain_yaml import YamlError, read_yaml, read_yaml_file, short

NODE_NAME = "pi0"
_LOGGING = {"--log-level": 1, "--log-config-file": 1, "-e": 1, "--enclave": 1}
_LOGGING |= {
    f"--{verb}-{log}-logs": 0
    for verb in ("enable", "disable")
    for log in ("rosout", "stdout", "external-lib")
}
"""Arguments that change neither parameters nor names -> how many words follow them."""


class ArgumentsError(UserError, ValueError):
    """ROS arguments, parameter files or parameters that the node would not start with."""


@dataclass
class NodeArguments:
    """What a node's command line sets.

    Attributes:
        name, namespace: of the node; a namespace begins with "/".
        parameters: node pattern ("/**", "/pi0") -> parameter name -> value, in order of mention.
        rules: remaps (from, to) as they are written.
    """

    name: str = NODE_NAME
    namespace: str = "/"
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: list[tuple[str, str]] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        """Fully qualified name of the node."""
        return f"{self.namespace.rstrip('/')}/{self.name}"

    @property
    def overrides(self) -> dict[str, Any]:
        """Parameter name -> value for this node; an empty list is None, as in rclpy."""
        found: dict[str, Any] = {}
        for pattern, values in self.parameters.items():
            if _matches(pattern, self.full_name):
                found.update(values)
        return found

    def strangers(self) -> str:
        """A line about parameters that are given to nodes of other names; "" if none are."""
        others = [name for name in self.parameters if not _matches(name, self.full_name)]
        if not others:
            return ""
        return (
            f"\n  - parameters are given for {' and '.join(others)}, and this node is"
            f" {self.full_name}: write {self.full_name}: or /**: above ros__parameters"
        )

    def absolute(self, topic: str) -> str:
        """A topic name of the node, made absolute and remapped."""
        name = self._expanded(topic)
        for source, target in self.rules:
            if self._expanded(source) == name:
                return self._expanded(target)
        return name

    def _expanded(self, topic: str) -> str:
        if topic.startswith("~"):
            return self.full_name + topic[1:]
        return topic if topic.startswith("/") else f"{self.namespace.rstrip('/')}/{topic}"


def write_arguments(
    files: Sequence[Path] = (), parameters: Mapping[str, object] | None = None
) -> list[str]:
    """ROS arguments for parameter files, and for parameters that win over those of the files.

    Args:
        parameters: name -> bool, number, string or list of them.
    """
    words = [word for file in files for word in ("--params-file", str(file.resolve()))]
    for name, value in (parameters or {}).items():
        # rcl reads a value as YAML, of which JSON is a part: quotes keep "2024" a string.
        words += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]
    return words


def read_arguments(ros_args: Sequence[str]) -> NodeArguments:
    """Reads what follows --ros-args.

    Args:
        ros_args: --params-file FILE, -p NAME:=VALUE and -r FROM:=TO, in any order and number;
            those about logging are skipped.

    Raises:
        ArgumentsError: an argument or a file that ROS would not take, or that is not understood
            here; or a parameter file cannot be read.
    """
    arguments = NodeArguments()
    words = iter(ros_args)
    for word in words:
        if word in _LOGGING:
            for _ in range(_LOGGING[word]):
                next(words, None)
            continue
        if word not in ("--params-file", "-p", "--param", "-r", "--remap"):
            raise ArgumentsError(
                f"--ros-args {word}: expected --params-file FILE, -p NAME:=VALUE or -r FROM:=TO"
            )
        value = next(words, None)
        if value is None:
            raise ArgumentsError(f"--ros-args {word}: expected something behind it")
        if word == "--params-file":
            _read_file(Path(value), arguments.parameters)
        else:
            _read_rule(word, value, arguments)
    return arguments


def _read_rule(word: str, text: str, arguments: NodeArguments) -> None:
    left, separator, right = text.partition(":=")
    node, colon, name = left.rpartition(":")
    if not separator or not name or not right.strip():
        raise ArgumentsError(f"--ros-args {word} {text}: expected NAME:=VALUE")
    if word in ("-p", "--param"):
        pattern = f"/{node.lstrip('/')}" if colon else "/**"
        values = arguments.parameters.setdefault(pattern, {})
        try:
            values[name] = _value(read_yaml(right, aliases=False), f"-p {text}")
        except YamlError as error:
            raise ArgumentsError(f"-p {text}: {error}") from error
    elif colon and node != arguments.name:
        return  # of another node
    elif name == "__node":
        arguments.name = right
    elif name == "__ns":
        arguments.namespace = right
    else:
        arguments.rules.append((name, right))


def _read_file(path: Path, parameters: dict[str, dict[str, Any]]) -> None:
    try:
        root = read_yaml_file(path, aliases=False)
    except OSError as error:
        raise ArgumentsError(f"{path}: {error.strerror}") from error
    except YamlError as error:
        raise ArgumentsError(f"{path}: {error}") from error
    if not isinstance(root, dict):
        raise ArgumentsError(f"{path}: expected node names such as /**: at the top")
    _read_nodes(root, "", path, parameters)


def _read_nodes(
    tree: dict[str, Any], prefix: str, path: Path, parameters: dict[str, dict[str, Any]]
) -> None:
    for key, value in tree.items():
        if not isinstance(value, dict):
            raise ArgumentsError(
                f"{path}: {key}: expected the name of a node or namespace, with ros__parameters:"
                " below it"
            )
        if key == "ros__parameters":
            if not prefix:
                raise ArgumentsError(f"{path}: ros__parameters: needs a node's name above it: /**:")
            _flatten(value, "", path, parameters.setdefault(prefix, {}))
        else:
            _read_nodes(value, f"{prefix}/{key.strip('/')}", path, parameters)


def _flatten(tree: dict[str, Any], prefix: str, path: Path, values: dict[str, Any]) -> None:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            _flatten(value, f"{name}.", path, values)
        else:
            values[name] = _value(value, f"{path}: {name}")


def _value(value: Any, where: str) -> Any:
    """A parameter's value: a scalar, a list of one type, or None for an empty list."""
    if isinstance(value, list):
        types = {type(item) for item in value}
        if len(types) > 1 or types & {list, dict}:
            raise ArgumentsError(f"{where}: a list must hold one type, got {short(value)}")
        return value or None
    if value is None or isinstance(value, dict):
        raise ArgumentsError(f"{where}: expected a value or a list")
    return value


def _matches(pattern: str, name: str) -> bool:
    """Whether a node's name fits a pattern, in which * is one token and ** any number of them."""
    tokens = re.escape(pattern).replace(r"/\*\*", "(/.*)?").replace(r"\*", "[^/]+")
    return re.fullmatch(tokens, name) is not None
