"""Several observations in one inference: their tensors side by side, in batches of static sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.model.rtc import Guided, Trained
from pi0_ros.policy.compile import Prompt
from pi0_ros.policy.graphs import Eager, Graphs

BATCH_SIZES = (1, 2, 4, 8)
"""Batches that graphs are compiled for; a batch between two of them is filled up."""


class Inputs(NamedTuple):
    """What `Graphs.infer` takes, of one observation or of a batch."""

    images: Tensor
    prompt: Prompt | Eager
    state: Tensor
    noise: Tensor
    rtc: Guided | Trained | None


def batches(rows: Sequence[Inputs], graphs: Graphs, sizes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of the rows that go together: a graph takes prompts of one length."""
    groups: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        length = 0 if graphs.is_eager else row.prompt[0].shape[1]
        groups.setdefault(length, []).append(number)
    for group in groups.values():
        for begin in range(0, len(group), max(sizes)):
            yield group[begin : begin + max(sizes)]


def stack(rows: Sequence[Inputs], graphs: Graphs, sizes: Sequence[int]) -> Inputs:
    """One batch of all rows; for compiled graphs, the last repeated up to a static size."""
    if not graphs.is_eager:
        size = next(size for size in sorted(sizes) if size >= len(rows))
        rows = [*rows, *[rows[-1]] * (size - len(rows))]
    if len(rows) == 1:
        return rows[0]
    images, prompts, states, noises, rtcs = zip(*rows, strict=True)
    return Inputs(
        torch.cat(images),
        _stack_prompts(prompts, graphs, images[0].shape[1]),
        torch.cat(states),
        torch.cat(noises),
        _stack_rtc(rtcs),
    )


def _stack_prompts(
    prompts: Sequence[Prompt] | Sequence[Eager], graphs: Graphs, cameras: int
) -> Prompt | Eager:
    model = graphs.model
    if not graphs.is_eager:
        tokens = torch.cat([prompt.tokens for prompt in prompts])
        layouts = list(zip(*(prompt.layout for prompt in prompts), strict=True))
        if model.config.pi05:  # RoPE tables of all positions, which the rows share, then counts
            *rope, counts = layouts
            return Prompt(tokens, (*(tables[0] for tables in rope), torch.cat(counts)))
        return Prompt(tokens, tuple(map(torch.cat, layouts)))
    lengths = [prompt.embedded.shape[1] for prompt in prompts]
    longest = max(lengths)
    padded = [F.pad(p.embedded, (0, 0, 0, longest - p.embedded.shape[1])) for p in prompts]
    embedded = torch.cat(padded)
    if min(lengths) == longest:
        return Eager(embedded, prompts[0].layout)
    images = cameras * model.config.tokens_per_image
    count = images + torch.tensor(lengths, device=model.device)
    valid = torch.arange(images + longest, device=model.device)[None] < count[:, None]
    return Eager(embedded, model.layout(valid))


def _stack_rtc(rtcs: Sequence[Guided | Trained | None]) -> Guided | Trained | None:
    first = rtcs[0]
    if isinstance(first, Guided):
        gain, rate = (torch.stack([getattr(r, n) for r in rtcs], dim=1) for n in ("gain", "rate"))
        return Guided(torch.cat([r.target for r in rtcs]), gain, rate)
    if isinstance(first, Trained):
        given = torch.stack([r.given for r in rtcs])
        return Trained(torch.cat([r.target for r in rtcs]), given, first.clean)
    return None
