"""YAML that users write, and what is refused of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pi0_ros import plain_yaml
from pi0_ros.plain_yaml import LARGEST, YamlError, read_yaml, read_yaml_file


def test_values() -> None:
    text = """
    word: a
    quoted: "1"
    number: 1e3
    sexagesimal: 1:30
    yes: on
    empty: {}
    list: [1, 0x10, 010, -.inf, 2.5]
    base: &base {x: 1, y: 2}
    again: *base
    merged: {<<: *base, z: 3}
    """
    assert read_yaml(text) == {
        "word": "a",
        "quoted": "1",
        "number": 1000.0,
        "sexagesimal": "1:30",
        "yes": True,
        "empty": {},
        "list": [1, 16, 8, float("-inf"), 2.5],
        "base": {"x": 1, "y": 2},
        "again": {"x": 1, "y": 2},
        "merged": {"x": 1, "y": 2, "z": 3},
    }
    assert read_yaml("") is None and read_yaml(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: a is declared twice"),
        ("limits:\n  j1: {min: 1, max: 2, min: 3}", "line 2: limits.j1.min is declared twice"),
        ("- {a: 1, a: 1}", "line 1: [].a is declared twice"),
        ("b: &b {j1: 1}\nl: {<<: *b, j1: 2}", "line 2: l.j1 is declared twice"),
        ("b: &b {j1: 1}\nl: {j1: 2, <<: [*b]}", "line 2: l.j1 is declared twice"),
        ("{<<: 3}", "a merge key takes a mapping"),
        ("a: !degrees 180", "line 1: the tag !degrees is xacro's; write 3.14159, which is in rad"),
        ("a: !radians pi", "the tag !radians is not read; write the plain value"),
        ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python/object"),
        ("!!str a: 1", "a key that is no plain word"),
        ("? [a, b]\n: 1", "a key that is no plain word"),
        ("a: *b", "line 1: the alias *b stands for nothing"),
        ("&a {self: *a}", "line 1: the alias *a stands for nothing before it"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: [", "no YAML"),
        ("\0", "no YAML"),
        (b"a: \xff", "no YAML"),
        ("a: " + "9" * 5000, "line 1: a number of 5000 characters"),
        ("a: 0x" + "f" * 5000, "line 1: a number of 5002 characters"),
        ("a: 1" + ":59" * 5000, "line 1: a number of 15001 characters"),
        ("a: 99999999999999999999", "a whole number beyond 64 bits"),
        ("[" * 50_000, "deeper than 50 levels"),
        ("{a: " * 51, "deeper than 50 levels"),
        ("- " * 51 + "a", "deeper than 50 levels"),
        (" " * LARGEST + "a", f"larger than {LARGEST} bytes"),
    ],
)
def test_what_is_refused(monkeypatch, loader, text, says) -> None:
    import yaml

    monkeypatch.setattr(plain_yaml, "_LOADER", getattr(yaml, loader, yaml.SafeLoader))
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert says in str(caught.value) and len(str(caught.value)) < 300


def test_without_aliases() -> None:
    for text in ("a: &b 1\nc: *b", "a: {<<: {b: 1}}"):
        assert read_yaml(text)
        with pytest.raises(YamlError, match="ROS reads none in parameter files"):
            read_yaml(text, aliases=False)


def test_a_file_is_read_up_to_the_limit(tmp_path) -> None:
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(YamlError, match="larger than"):
        read_yaml_file(large)


HOSTILE = """
import resource, sys
from pi0_ros.plain_yaml import LARGEST, YamlError, read_yaml
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
memory = peak()
levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
merges = ["a0: &a0 {x: 1}"]
merges += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 10)]
names = [f"a{i}: &a{i} {{k{i}: 0, b: *a{i - 1}, c: *a{i - 1}}}" for i in range(1, 60)]
long = "a: &a " + "x" * 500_000 + "\\nb: [" + "*a, " * 100_000 + "]"
text = {
    "aliases": "\\n".join(levels),
    "merge keys": "\\n".join(merges),
    "doubled": "\\n".join(["a0: &a0 {x: 1}", *names]),
    "long aliases": long,
    "brackets": "[" * LARGEST,
    "braces": "{" * LARGEST,
    "blocks": "- " * (LARGEST // 2),
    "question marks": "? " * (LARGEST // 2),
    "sexagesimal": "a: 1" + ":59" * 300_000,
    "digits": "a: " + "9" * 1_000_000,
    "hexadecimal": "a: 0x" + "f" * 1_000_000,
    "exponent": "a: 1e" + "9" * 1_000_000,
    "anchors": "[" + "".join(f"&a{i} 1," for i in range(90_000)) + "]",
    "tags": "a: !" + "x" * 1_000_000,
    "quotes": 'a: "' + "\\\\n" * 500_000,
    "indents": "".join(" " * i + f"k{i}:\\n" for i in range(1000)),
}[sys.argv[1]]
assert len(text) < 2 * LARGEST
try:
    read_yaml(text)
    print("read")
except YamlError as error:
    print("refused:", error)
print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
print(peak() - memory)
"""


@pytest.mark.parametrize(
    "name",
    [
        "aliases", "merge keys", "doubled", "long aliases", "brackets", "braces", "blocks",
        "question marks", "sexagesimal", "digits", "hexadecimal", "exponent", "anchors", "tags",
        "quotes", "indents",
    ],
)  # fmt: skip
def test_a_hostile_document_costs_little(name) -> None:
    """Processor time, which a busy machine does not change much, and memory, of a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, name], capture_output=True, text=True, check=True
    )
    verdict, seconds, kibibytes = done.stdout.splitlines()
    assert verdict.startswith("refused:") or name in ("anchors", "quotes")
    assert len(verdict) < 400
    assert float(seconds) < 2.0 and int(kibibytes) < 100 * 1024, done.stdout
