"""What a pi0 checkpoint directory declares, in four formats.

* `lerobot-0.3`: LeRobot up to 0.3; statistics are tensors among the weights.
* `lerobot-0.4`: LeRobot from 0.4; statistics are in the files that the processors' JSON names.
* `openpi`: openpi's PyTorch checkpoints; statistics are in a norm_stats.json below assets/.
* `pi0_ros`: this package's own, made of one of the others by `pi0 convert`.

The formats differ in more than spelling: how images are resized and padded, how prompts are
cleaned, how divisions are guarded. `Checkpoint` holds those differences as data.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.checkpoint.tensors import Tensors
from pi0_ros.checkpoint.weights import load_weights
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.ops import Ops
from pi0_ros.model.pi0 import Pi0


@dataclass(frozen=True)
class ImageRule:
    """How a format fits an image into the model's square.

    Attributes:
        antialias: shrink with a low-pass filter (openpi, as Pillow does) or without (LeRobot).
        centred: border on all sides, or on the left and top only (LeRobot up to 0.3).
    """

    antialias: bool
    centred: bool


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory, read and checked without its weights.

    Attributes:
        path: the directory.
        format: `lerobot-0.3`, `lerobot-0.4`, `openpi` or `pi0_ros`.
        config: sizes of the model.
        tensors: its weights, wherever they lie.
        cameras: camera names in the order in which the model reads them.
        joints: number of joints.
        state, action: normalisation of `joints` values, in the checkpoint's own unit.
        image: how images are fitted.
        accumulates_time: how the format steps through the flow; see `flow_time.flow_times`.
        cleans_prompt: whether underscores and newlines of a prompt become spaces (openpi, pi0.5).
        action_mode: `absolute` or `delta`; None where the format does not say (openpi).
        delta_mask: with `delta`, per joint whether its actions are relative to the observed state.
        prompt_state: how many values of the state stand in the prompt (pi0.5), those beyond the
            joints being 0; 0: none; None where the format does not say (openpi).
        rtc_max_delay: the most actions that training gave as a clean prefix (training-time
            real-time chunking); 0: it gave none.
    """

    path: Path
    format: str
    config: Pi0Config
    tensors: Tensors
    cameras: tuple[str, ...]
    joints: int
    state: Normalization
    action: Normalization
    image: ImageRule
    accumulates_time: bool
    cleans_prompt: bool
    action_mode: str | None
    delta_mask: tuple[bool, ...] | None = None
    prompt_state: int | None = 0
    rtc_max_delay: int = 0

    @property
    def horizon(self) -> int:
        """Steps in a chunk."""
        return self.config.horizon

    def load_model(self, dtype: torch.dtype, device: torch.device, ops: Ops | None = None) -> Pi0:
        """The model with this checkpoint's weights; see `weights.load_weights`."""
        return load_weights(self.tensors, self.config, dtype, device, ops)
