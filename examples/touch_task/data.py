"""Demonstrations as batches: normalised, fitted into the model's square, shuffled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from examples.touch_task.demonstrations import Demonstrations
from examples.touch_task.objective import POINTED_JOINTS, Batch
from pi0_ros.checkpoint.normalization import normalization
from pi0_ros.model.config import Pi0Config
from pi0_ros.policy.prompt import load_tokenizer, tokenize
from pi0_ros.sim.expert import LEAD, velocity
from pi0_ros.sim.task import INSTRUCTIONS, OPEN_THINGS, SENTENCES, satisfies

STATE_MODES = {"pi0": "MEAN_STD", "pi05": "QUANTILES"}
"""How each variant normalises the state."""

_LEAST_STD = 0.05  # radians: a joint that hardly moves must not make its noise look large
_OFF = (0.10, 0.15, 0.15, 0.15, 0.04, 0.15)  # radians: how far off a decoy is at most
_DECOYS = torch.tensor([0.25, 0.35, 0.20, 0.20])
"""Shares of decoys: the arm stays, the goal, any of the scene's objects, any pan."""
_PANS = 0.8  # radians: decoys are from minus this on
_AHEAD = 5  # steps after the given ones by which it shows where they lead
_NOTHING_GIVEN = 0.25  # share of observations: guidance and no real-time chunking give nothing
_LED_SHARES = torch.tensor([0.25, 0.25, 0.25, 2.0, 1.0])
"""How often each label is drawn where a policy leads the arm: the ambiguous ones led it there."""
_RIGHT = torch.tensor([[satisfies(thing, text) for text in SENTENCES] for thing in OPEN_THINGS])
"""[instruction that names an object, sentence]: whether touching that object is right."""
_BRIGHTNESS = 0.06  # how much an image is made brighter or darker, of the whole range


class TrainingData:
    """Batches drawn from demonstrations, and the statistics that normalise them.

    Args:
        demonstrations: what to draw from.
        config: sizes of the model.
        tokenizer: directory of the tokenizer that the checkpoint will bring.
        generator: of the draws.
        statistics: of state and action; None: those of the demonstrations.

    Attributes:
        state, action: statistics `mean`, `std`, `q01` and `q99`, [joints] float32 radians, as a
            checkpoint stores them.
    """

    def __init__(
        self,
        demonstrations: Demonstrations,
        config: Pi0Config,
        tokenizer: Path,
        generator: torch.Generator,
        statistics: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None = None,
    ) -> None:
        self._demonstrations = demonstrations
        self._config = config
        self._generator = generator
        self._order = torch.empty(0, dtype=torch.int64)
        self.state, self.action = statistics or (
            _statistics(demonstrations.state),
            _statistics(demonstrations.chunks),
        )
        self._state = normalization(
            STATE_MODES[config.variant], self.state, self.state["mean"].size
        )
        self._goal = _statistics(demonstrations.goals)
        self._tokenizer = load_tokenizer(tokenizer, None)

    def draw(self, size: int, max_delay: int = 0) -> Batch:
        """Observations that were not seen in this round, each with one of its instructions.

        Args:
            max_delay: most steps of a chunk that are given; how many is drawn, from 0 on.
        """
        if len(self._order) < size:
            count = len(self._demonstrations)
            self._order = torch.randperm(count, generator=self._generator)
        rows, self._order = self._order[:size], self._order[size:]
        objects, sentences = self.labels(rows)
        led = self._demonstrations.executing[rows, 0, :1].isfinite()
        shares = torch.where(led, _LED_SHARES, 1.0) * (objects >= 0)
        drawn = torch.multinomial(shares, 1, generator=self._generator)
        objects, sentences = (labels.gather(1, drawn)[:, 0] for labels in (objects, sentences))
        delays = torch.randint(max_delay + 1, (len(rows),), generator=self._generator)
        nothing = torch.rand(len(rows), generator=self._generator) < _NOTHING_GIVEN
        delays = delays.masked_fill(nothing, 0)
        return self.batch(rows, objects, sentences, delays)

    def labels(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What the observations `rows` [n] are labelled with.

        Returns:
            Of each of the labels, [n, labels] each: which of the scene's objects the expert goes
            for, -1 where there is no such label, and the place of what it was told in `SENTENCES`.
        """
        d = self._demonstrations
        named, choices = d.instructions[rows], d.choices[rows]
        each = torch.arange(named.shape[1]).expand_as(named)
        ambiguous = torch.arange(len(INSTRUCTIONS), len(SENTENCES)).expand_as(choices)
        return torch.cat((each, choices), dim=1), torch.cat((named, ambiguous), dim=1)

    def batch(
        self,
        rows: Tensor,
        chosen: Tensor,
        sentences: Tensor,
        delays: Tensor,
        *,
        vary: bool = True,
    ) -> Batch:
        """The observations `rows` [n] under one instruction each.

        Args:
            chosen: [n] which of its scene's objects the expert goes for; where steps are given and
                the sentence leaves the choice, it goes for the right one that is nearest to where
                they lead.
            sentences: [n] what it was told, places in `SENTENCES`.
            delays: [n] how many steps of the chunk are given.
            vary: change the brightness of each image at random.
        """
        d, c = self._demonstrations, self._config
        state = torch.from_numpy(self._state.normalize(d.state[rows].numpy()))
        tokens = [
            self._prompt(SENTENCES[which], values)
            for which, values in zip(sentences, state, strict=True)
        ]
        leads = self._leads(rows, chosen)
        chosen = self._reconsidered(rows, chosen, sentences, delays, leads)
        named = (sentences < len(INSTRUCTIONS))[:, None]
        goal = _normalised(d.goals[rows, chosen], self._goal)[:, :POINTED_JOINTS]
        goal = goal.where(named, torch.nan)
        places = d.places[rows, chosen].where(named[..., None], torch.nan)
        return Batch(
            self._images(d.images[rows], vary),
            pad_sequence(tokens, batch_first=True),
            torch.tensor([len(t) for t in tokens]),
            F.pad(state, (0, c.max_state_dim - state.shape[1])),
            delays,
            _normalised(self._chunks(rows, chosen, delays, leads), self.action),
            torch.cat((goal, state), dim=1) if c.pi05 else goal,
            self._patches(places, *d.images.shape[2:4]),
        )

    def _leads(self, rows: Tensor, chosen: Tensor) -> Tensor:
        """[n, horizon, joints] radians: a way of which the first steps may be given.

        Where a policy leads the arm, what executes. Elsewhere the way to a decoy: what a policy has
        decided is never quite what the expert would have, and if it was in training, the policy
        would learn to go on with it whatever the cameras show. So the arm stays, or is led a little
        off the goal, to another object, or to some pan.
        """
        d, count = self._demonstrations, len(rows)
        state, goal = d.state[rows], d.goals[rows, chosen]
        other = torch.randint(d.goals.shape[1], (count,), generator=self._generator)
        other = d.goals[rows, other]
        share, pan = torch.rand(2, count, generator=self._generator)
        anywhere = other.clone()
        anywhere[:, 0] = _PANS * (2 * pan - 1)
        kind = torch.multinomial(_DECOYS, count, replacement=True, generator=self._generator)
        decoy = torch.stack((state, goal, other, anywhere))[kind, torch.arange(count)]
        off = torch.randn(goal.shape, generator=self._generator) * torch.tensor(_OFF)
        decoy = decoy + share[:, None] * off
        way = way_to(state.numpy(), decoy.numpy(), d.chunks.shape[2])
        executing = d.executing[rows]
        return torch.where(executing.isfinite(), executing, torch.from_numpy(way).float())

    def _reconsidered(
        self, rows: Tensor, chosen: Tensor, sentences: Tensor, delays: Tensor, leads: Tensor
    ) -> Tensor:
        """[n] which objects the expert goes for, given steps that lead there already.

        At random, as where none are given, would teach to go back and forth between two.
        """
        d = self._demonstrations
        ahead = (delays + _AHEAD).clamp(max=leads.shape[1] - 1)
        pan = leads[torch.arange(len(rows)), ahead, 0]
        distances = (d.goals[rows, :, 0] - pan[:, None]).abs()
        right = _RIGHT[d.instructions[rows], sentences[:, None]]
        nearest = distances.masked_fill(~right, torch.inf).argmin(dim=1)
        return torch.where((sentences >= len(INSTRUCTIONS)) & (delays > 0), nearest, chosen)

    def _chunks(self, rows: Tensor, chosen: Tensor, delays: Tensor, leads: Tensor) -> Tensor:
        """[n, horizon, joints] radians: what is given, and the expert's way from there."""
        d = self._demonstrations
        goal = d.goals[rows, chosen]
        led = torch.from_numpy(led_chunk(leads.numpy(), goal.numpy(), delays.numpy())).float()
        return torch.where(delays[:, None, None] > 0, led, d.chunks[rows, chosen])

    def _prompt(self, instruction: str, state: Tensor) -> Tensor:
        """[length] token ids, as the policy makes them of a normalised state."""
        c = self._config
        limits = {"length": c.prompt_length, "vocab_size": c.vocab_size}
        values = state.numpy() if c.pi05 else None
        return tokenize(self._tokenizer, instruction, cleans=c.pi05, state=values, **limits)[0]

    def _patches(self, places: Tensor, height: int, width: int) -> Tensor:
        """Places in images [n, cameras, 2] -> patches of the square [n, cameras], -1 for none."""
        c = self._config
        left, top = (c.image_size - width) // 2, (c.image_size - height) // 2
        column = (left + (1 + places[..., 0]) / 2 * width) // c.patch_size
        row = (top + (1 - places[..., 1]) / 2 * height) // c.patch_size
        return (row * (c.image_size // c.patch_size) + column).nan_to_num(-1.0).long()

    def _images(self, images: Tensor, vary: bool) -> Tensor:
        """[n, cameras, height, width, 3] uint8 -> [n, cameras, 3, size, size] in [-1, 1].

        The border is that of `policy.images.fit_image`, with the format's centred rule.
        """
        size = self._config.image_size
        height, width = images.shape[2:4]
        scaled = images.permute(0, 1, 4, 2, 3).float() / 127.5 - 1.0
        if vary:
            shift = torch.randn((*images.shape[:2], 1, 1, 1), generator=self._generator)
            scaled = (scaled + _BRIGHTNESS * shift).clamp(-1.0, 1.0)
        left, top = (size - width) // 2, (size - height) // 2
        border = (left, size - width - left, top, size - height - top)
        return F.pad(scaled, border, value=-1.0)


def _statistics(values: Tensor) -> dict[str, np.ndarray]:
    flat = values.reshape(-1, values.shape[-1]).double()
    q01, q99 = np.quantile(flat.numpy(), (0.01, 0.99), axis=0)
    middle, half = (q01 + q99) / 2, np.maximum((q99 - q01) / 2, 2 * _LEAST_STD)
    return {
        "mean": flat.mean(0).float().numpy(),
        "std": flat.std(0).clamp(min=_LEAST_STD).float().numpy(),
        "q01": (middle - half).astype(np.float32),
        "q99": (middle + half).astype(np.float32),
    }


def _normalised(values: Tensor, statistics: dict[str, np.ndarray]) -> Tensor:
    return (values - torch.from_numpy(statistics["mean"])) / torch.from_numpy(statistics["std"])


def way_to(joints: np.ndarray, goal: np.ndarray, horizon: int) -> np.ndarray:
    """As `Expert.chunk_from`, of many at once and without the ranges of the joints.

    Args:
        joints, goal: [n, 6] radians.

    Returns:
        [n, horizon, 6] radians.
    """
    q, steps = np.asarray(joints, dtype=float), []
    for _ in range(horizon + LEAD):
        q = q + velocity(q, goal)
        steps.append(q)
    return np.stack(steps[LEAD:], axis=-2)


def led_chunk(leads: np.ndarray, goal: np.ndarray, delays: np.ndarray) -> np.ndarray:
    """The first steps as they are given, and the expert's way from there.

    Args:
        leads: [n, horizon, 6] radians.
        goal: [n, 6] radians: where the expert goes.
        delays: [n] how many steps are given, at least 1.

    Returns:
        [n, horizon, 6] radians.
    """
    steps = [leads[:, 0].astype(float)]
    for step in range(1, leads.shape[1]):
        given = (step < delays)[:, None]
        steps.append(np.where(given, leads[:, step], steps[-1] + velocity(steps[-1], goal)))
    return np.stack(steps, axis=-2)
