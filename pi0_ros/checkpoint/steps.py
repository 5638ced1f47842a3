"""The processor steps that LeRobot saves beside a policy since 0.4: what they do to values.

The one place that knows their names. A step that is not known changes values in a way that is not
known either, so it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pi0_ros.checkpoint.document import Document, read_document
from pi0_ros.checkpoint.errors import shown

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"

NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
NEW_LINE, TOKENIZER = "pi0_new_line_processor", "tokenizer_processor"
STATE_PROMPT = "pi05_prepare_state_tokenizer_processor_step"
"""Writes the normalised state into the prompt of pi0.5."""
RELATIVE, ABSOLUTE = "relative_actions_processor", "absolute_actions_processor"
# Two names of one step: LeRobot 0.5.1 wrote the first.
_ALIASES = {"delta_actions_processor": RELATIVE}

# In the order in which they have to run; the others may stand anywhere.
_BEFORE = ((NEW_LINE, TOKENIZER), (RELATIVE, NORMALIZER))
_BEFORE_PI05 = ((RELATIVE, NORMALIZER, STATE_PROMPT, TOKENIZER),)
_AFTER = (UNNORMALIZER, ABSOLUTE)
_HARMLESS = ("rename_observations_processor", "to_batch_processor", "device_processor")

_TOKENIZER_NAME = "paligemma-3b-pt-224"


class Steps:
    """The steps of both processors of a checkpoint's directory, by name."""

    def __init__(self, path: Path, problems: list[str], pi05: bool) -> None:
        self._problems = problems
        self._pi05 = pi05
        self._steps: dict[str, Document] = {}
        for file, orders in (
            (PREPROCESSOR, _BEFORE_PI05 if pi05 else _BEFORE),
            (POSTPROCESSOR, (_AFTER,)),
        ):
            if not (path / file).is_file():
                problems.append(f"{file} is missing")
                continue
            self._read(read_document(path, file, problems), orders)

    def _read(self, document: Document, orders: Sequence[Sequence[str]]) -> None:
        known = {*_HARMLESS, *(name for order in orders for name in order)}
        places: dict[str, int] = {}
        for index, step in enumerate(document.children("steps")):
            given = step.text("registry_name", step.text("class", "?"))
            name = _ALIASES.get(given, given)
            if name not in known:
                self._problems.append(
                    f"{document.where} has the step {shown(given)}, which this package does not"
                    f" know there; known: {', '.join(sorted(known))}"
                )
            elif name in places and name not in _HARMLESS:
                self._problems.append(f"{document.where} has the step '{name}' twice")
            else:
                places[name] = index
                self._steps[name] = step
                step.where = f"{document.where}: {given}"
        for order in orders:
            there = [name for name in order if name in places]
            if sorted(there, key=places.__getitem__) != there:
                self._problems.append(
                    f"{document.where}: the order must be {', then '.join(there)}"
                )

    def get(self, name: str) -> Document | None:
        return self._steps.get(name)

    def required(self, name: str, otherwise: str) -> Document | None:
        """The step; without it, a problem that says what is lost."""
        step = self._steps.get(name)
        if step is None:
            self._problems.append(f"the processors have no step '{name}': {otherwise}")
        return step

    def check_prompt(self, prompt_length: int) -> None:
        """The prompt's steps must do what `policy.prompt` does."""
        if self._pi05:
            self.required(
                STATE_PROMPT, "pi0.5 was trained with prompts that have the state in them"
            )
        else:
            self.required(NEW_LINE, "pi0 was trained with prompts that end in a new line")
        step = self.required(TOKENIZER, "nothing says how prompts become tokens")
        if step is None:
            return
        settings = step.child("config")
        name = settings.text("tokenizer_name", _TOKENIZER_NAME)
        if name.rstrip("/").rpartition("/")[2] != _TOKENIZER_NAME:
            settings.problem(
                f"tokenizer_name is {shown(name)}; pi0 was trained with google/{_TOKENIZER_NAME}"
            )
        for key, expected in (
            ("max_length", prompt_length),
            ("padding_side", "right"),
            ("padding", "max_length"),
            ("truncation", True),
            ("task_key", "task"),
        ):
            if key in settings and settings.raw(key) != expected:
                settings.problem(
                    f"{key} is {shown(settings.raw(key))}, config.json and the model need"
                    f" {expected!r}"
                )

    def relative_actions(self, document: Document, joints: int) -> tuple[bool, ...] | None:
        """Which actions are relative to the observed state; None where the steps are disabled.

        The rule is LeRobot's: without names or without excluded joints all are; otherwise those
        whose name contains none of the excluded names, and those that have no name.

        Args:
            document: config.json, which must not contradict the steps.
        """
        before = self._settings(RELATIVE)
        after = self._settings(ABSOLUTE)
        enabled = before.flag("enabled")
        if after.flag("enabled") != enabled:
            self._problems.append(
                f"{RELATIVE} has enabled = {enabled}, but {ABSOLUTE} has {not enabled}: actions"
                " would be converted in one direction only"
            )
        declared = document.flag("use_relative_actions", enabled)
        if declared != enabled:
            document.problem(
                f"use_relative_actions is {declared}, but the processors' steps are"
                f" {'enabled' if enabled else 'disabled or not there'}: which of them the training"
                " used cannot be told. Save the policy and its processors together"
            )
        if not enabled:
            return None
        excluded = before.texts("exclude_joints") or ()
        names = before.texts("action_names")
        for key, ours in (("relative_exclude_joints", excluded), ("action_feature_names", names)):
            theirs = document.texts(key)
            if theirs is not None and ours is not None and theirs != ours:
                document.problem(f"{key} is {shown(theirs)}, the step has {shown(ours)}")
        tokens = [name.lower() for name in excluded if name]
        mask = [not any(token in name.lower() for token in tokens) for name in names or ()]
        return tuple([*mask, *[True] * joints][:joints])

    def _settings(self, name: str) -> Document:
        step = self._steps.get(name)
        return step.child("config") if step else Document({}, name, self._problems)
