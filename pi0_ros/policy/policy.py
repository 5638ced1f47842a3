"""The policy: an observation to a chunk of joint positions."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import ReadOptions, read_checkpoint
from pi0_ros.console import progress
from pi0_ros.model.flow_time import flow_times
from pi0_ros.model.rtc import Guided, Trained, guidance
from pi0_ros.policy.batching import Inputs, batches, stack
from pi0_ros.policy.compatibility import policy_problems, prompt_state
from pi0_ros.policy.compile import GraphOptions, Prompt
from pi0_ros.policy.device import StageClock, resolve_device
from pi0_ros.policy.graphs import Eager, Graphs, load_graphs
from pi0_ros.policy.preprocess import RESIZES, check_image, fit_image, fit_pixels
from pi0_ros.policy.prompt import WARM_UP_INSTRUCTION, Tokenizer, load_tokenizer, tokenize
from pi0_ros.policy.types import ActionChunk, ActionPrefix, ChunkRequest, Observation
from pi0_ros.policy.units import JointUnits

_LOG = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Policy:
    """pi0 with units, statistics, tokenizer and image preprocessing.

    Not thread-safe: one inference at a time.

    Attributes:
        rtc_max_delay: the most steps that a prefix may give, for policies trained with them.
        batch_sizes: of `infer_batch`, that graphs are compiled for.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        graphs: Graphs,
        tokenizer: Tokenizer,
        *,
        cameras: Sequence[str],
        joint_units: JointUnits,
        delta_mask: np.ndarray,
        action_dt: float,
        seed: int,
        prompt_state: int = 0,
        rtc_max_delay: int = 0,
        batch_sizes: Sequence[int] = (1,),
        resize: str = "auto",
    ) -> None:
        """See `Policy.load`, which checks what is given here."""
        self.checkpoint = checkpoint
        self.cameras = tuple(cameras)
        self.num_joints = len(joint_units)
        self.horizon = checkpoint.config.horizon
        self.seed = seed
        self.rtc_max_delay = rtc_max_delay
        self.graphs = graphs
        self._tokenizer = tokenizer
        self._units = joint_units
        self.delta_mask = delta_mask
        self._dt = action_dt
        self._state_norm = checkpoint.state
        self._action_norm = checkpoint.action
        self._device = graphs.time_table.device
        self._transfer = graphs.transfer
        self._fits_on_device = resize == "device" or (
            resize == "auto" and self._transfer.is_asynchronous
        )
        # How many values of the state stand in the prompt.
        self.prompt_state = prompt_state
        self._prompts: dict[str, Prompt | Eager] = {}
        self._sequence = 0
        self.batch_sizes = tuple(sorted(batch_sizes))

    @staticmethod
    def load(
        checkpoint: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        seed: int = 0,
        cameras: Sequence[str] | None = None,
        joint_units: JointUnits | None = None,
        action_mode: str | None = None,
        delta_mask: Sequence[bool] | None = None,
        action_dt: float = 0.02,
        tokenizer: str | Path | None = None,
        options: ReadOptions | None = None,
        graph: GraphOptions | None = None,
        discrete_state_input: bool | None = None,
        rtc_max_delay: int = 0,
        batch_sizes: Sequence[int] = (1,),
        resize: str = "auto",
    ) -> "Policy":
        """Load a checkpoint directory, check that it fits the arguments, and warm up.

        Args:
            checkpoint: directory in one of the formats of `pi0_ros.checkpoint.checkpoint`.
            device: `auto`, `cpu`, `npu:0` or another device of torch; see `resolve_device`.
            dtype: `float32` or `bfloat16`.
            seed: of the flow-matching noise; the n-th chunk after loading depends on (seed, n) and
                the observation only.
            cameras: the checkpoint's cameras that exist on this robot, by name; all by default.
                The others are treated like missing cameras in training: not attended to.
            joint_units: the checkpoint's unit of each joint, in joint order; radians by default.
            action_mode: `absolute` or `delta`; needed where the checkpoint does not say (openpi).
            delta_mask: with `delta`: per joint, whether its actions are relative to the observed
                state (openpi's DeltaActions); typically all but the gripper. Not needed where the
                checkpoint says it (LeRobot's relative actions).
            action_dt: seconds between two actions, 1 / the control rate of the training data.
            tokenizer: directory or SentencePiece file, where the checkpoint brings none.
            options: what the checkpoint's directory leaves open.
            graph: how the model is compiled (default: `auto`), and whether for real-time chunking;
                the warm-up compiles all that will be needed.
            discrete_state_input: whether prompts of pi0.5 have the state in them; needed where the
                checkpoint does not say (openpi).
            rtc_max_delay: with `graph.rtc` trained: the most steps that a prefix may give; 0: as
                many as the checkpoint says that it was trained with. Needed where it does not say.
            batch_sizes: of `infer_batch`, that graphs are compiled for; 1 among them.
            resize: where images are resized, of `RESIZES`: on the host as LeRobot and openpi do,
                or on the device, to within one of the 255 steps of a colour (`fit_pixels`).

        Raises:
            CheckpointError: the checkpoint is broken (lists everything), or its actions are not
                finite.
            DeviceError: the device cannot be used.
            TokenizerError: there is no tokenizer.
            ValueError: the arguments do not fit the checkpoint; lists everything.
        """
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        graph = graph or GraphOptions()
        if resize not in RESIZES:
            raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {resize!r}")
        read = read_checkpoint(checkpoint, options=options or ReadOptions())
        cameras = read.cameras if cameras is None else tuple(cameras)
        joints = read.joints
        joint_units = joint_units or JointUnits.radians(joints)
        problems = policy_problems(
            read,
            cameras=cameras,
            joints=len(joint_units),
            action_mode=action_mode,
            delta_mask=delta_mask,
            action_dt=action_dt,
            discrete_state_input=discrete_state_input,
            rtc=graph.rtc,
            rtc_max_delay=rtc_max_delay,
        )
        left_out = [name for name in read.cameras if name not in cameras]
        if left_out:
            _LOG.warning("cameras %s of the checkpoint are not given: not attended to", left_out)
        if problems:
            raise CheckpointError(f"{read.path} does not fit:\n  - " + "\n  - ".join(problems))
        # The model was trained on images in the checkpoint's order.
        cameras = [name for name in read.cameras if name in cameras]
        # Device and tokenizer first: they may be missing, and weights take long to read.
        on = resolve_device(device)
        words = load_tokenizer(read.path, tokenizer)
        graphs = load_graphs(read, graph, DTYPES[dtype], on, len(cameras))
        policy = Policy(
            read,
            graphs,
            words,
            cameras=cameras,
            joint_units=joint_units,
            delta_mask=np.array(delta_mask or read.delta_mask or [False] * joints),
            action_dt=action_dt,
            seed=seed,
            prompt_state=prompt_state(read, discrete_state_input),
            rtc_max_delay=rtc_max_delay or read.rtc_max_delay,
            batch_sizes=batch_sizes,
            resize=resize,
        )
        policy._warm_up()
        return policy

    @property
    def device(self) -> str:
        """The device that the model runs on, in torch's words."""
        return str(self._device)

    def reset(self) -> None:
        """Begin a new episode: chunks, and so their noise, are counted from 0 again."""
        self._sequence = 0

    @torch.inference_mode()
    def infer(
        self,
        observation: Observation,
        noise: np.ndarray | None = None,
        prefix: ActionPrefix | None = None,
        sequence: int | None = None,
    ) -> ActionChunk:
        """Predict the chunk that follows an observation.

        Args:
            noise: [horizon, max_action_dim] float32 to start the flow from; by default drawn from
                (seed, sequence).
            prefix: what the chunk is to agree with, for a policy loaded for real-time chunking;
                None: nothing.
            sequence: number of the chunk in its episode, where the caller counts; by default the
                one after the last.

        Raises:
            ValueError: the observation lacks a camera, something has the wrong shape, or the policy
                was not loaded for a prefix, or not trained for its delay.
        """
        if sequence is None:
            sequence = self._sequence
        chunk = self.infer_batch([ChunkRequest(observation, sequence, prefix, noise)])[0]
        self._sequence = sequence + 1
        return chunk

    @torch.inference_mode()
    def infer_batch(self, requests: Sequence[ChunkRequest]) -> list[ActionChunk]:
        """Chunks of several robots, computed together: each as `infer` alone gives it.

        Raises:
            ValueError: as `infer`; one request that is wrong spoils all.
        """
        clock = StageClock(self._device)
        states = [self._state(request.observation) for request in requests]
        rows = [self._inputs(*pair) for pair in zip(requests, states, strict=True)]
        clock.lap("prepare", waits=False)
        actions: dict[int, np.ndarray] = {}
        for numbers in batches(rows, self.graphs, self.batch_sizes):
            inputs = stack([rows[n] for n in numbers], self.graphs, self.batch_sizes)
            out = self.graphs.infer(*inputs[:4], clock.lap, inputs.rtc)
            actions |= zip(numbers, out[:, :, : self.num_joints].numpy(), strict=False)
        positions = [
            self._units.to_radians(
                self._action_norm.unnormalize(actions[n]) + np.where(self.delta_mask, state, 0.0)
            )
            for n, state in enumerate(states)
        ]
        clock.lap("finish", waits=False)
        return [
            ActionChunk(
                positions=own.astype(np.float32),
                dt=self._dt,
                stamp=request.observation.stamp,
                sequence=request.sequence,
                seed=self.seed,
                stage_times=clock.laps,
            )
            for request, own in zip(requests, positions, strict=True)
        ]

    def _rtc(self, prefix: ActionPrefix | None, state: np.ndarray) -> Guided | Trained | None:
        """A prefix as the model takes it; with None it has no influence.

        Args:
            state: [joints] in the checkpoint's unit, which relative actions are relative to.
        """
        c, mode = self.checkpoint.config, self.graphs.options.rtc
        if mode == "off":
            if prefix is not None:
                raise ValueError("a prefix was given, but the policy was loaded with rtc off")
            return None
        target = np.zeros((1, c.horizon, c.max_action_dim), np.float32)
        weights, delay, max_weight = np.zeros(c.horizon), 0, 1.0
        if prefix is not None:
            prefix.check(c.horizon, self.num_joints)
            weights, delay, max_weight = prefix.weights, prefix.delay, prefix.max_weight
            if mode == "trained" and delay > self.rtc_max_delay:
                raise ValueError(
                    f"a prefix with a delay of {delay} steps was given; the policy was trained with"
                    f" at most {self.rtc_max_delay}"
                )
            values = self._units.from_radians(np.asarray(prefix.positions, np.float32))
            values = values - np.where(self.delta_mask, state, 0.0)
            target[0, :, : self.num_joints] = self._action_norm.renormalize(values)
        upload = self._transfer.upload
        on_device = upload(target)
        if mode == "trained":
            given = upload(np.arange(c.horizon)[:, None] < delay)
            return Trained(on_device, given, self.graphs.clean)
        times = flow_times(c.num_steps, self.checkpoint.accumulates_time)
        tables = guidance(weights, times, max_weight)
        return Guided(on_device, *map(upload, tables))

    def noise(self, sequence: int) -> np.ndarray:
        """[horizon, max_action_dim] float32, standard normal: where chunk `sequence` starts."""
        c = self.checkpoint.config
        generator = np.random.default_rng((self.seed, sequence))
        return generator.standard_normal((c.horizon, c.max_action_dim), dtype=np.float32)

    def _state(self, observation: Observation) -> np.ndarray:
        """The state [joints] in the checkpoint's unit, of an observation that has all cameras."""
        missing = [name for name in self.cameras if name not in observation.images]
        if missing:
            raise ValueError(
                f"the observation lacks the cameras {missing}, got {sorted(observation.images)}"
            )
        state = np.asarray(observation.state, dtype=np.float32)
        if state.shape != (self.num_joints,):
            raise ValueError(
                f"the state must be [{self.num_joints}] in joint order, got {list(state.shape)}"
            )
        if not np.isfinite(state).all():
            raise ValueError(f"the state is not finite: {state.tolist()}")
        return self._units.from_radians(state)

    def _inputs(self, request: ChunkRequest, state: np.ndarray) -> Inputs:
        """What the model takes, on its device: one row.

        Args:
            state: from `_state`.
        """
        c, rule, observation = self.checkpoint.config, self.checkpoint.image, request.observation
        images = [observation.images[name] for name in self.cameras]
        prompt = self._prompt(observation.instruction, state)
        noise = self.noise(request.sequence) if request.noise is None else request.noise
        if noise.shape != (c.horizon, c.max_action_dim):
            raise ValueError(
                f"noise must be [{c.horizon}, {c.max_action_dim}], got {list(noise.shape)}"
            )
        rtc = self._rtc(request.prefix, state)
        padded = np.zeros((1, c.max_state_dim), np.float32)
        padded[0, : self.num_joints] = self._state_norm.normalize(state)
        upload = self._transfer.upload
        if self._fits_on_device:
            for image in images:
                check_image(image)
            fitted = torch.stack([fit_pixels(upload(i), c.image_size, rule) for i in images])
        else:
            host = torch.stack([fit_image(image, c.image_size, rule) for image in images])
            fitted = upload(host.numpy())
        noise = upload(np.asarray(noise, np.float32)[None])
        return Inputs(fitted[None], prompt, upload(padded), noise, rtc)

    def _prompt(self, instruction: str, state: np.ndarray) -> Prompt | Eager:
        """The prompt for an instruction; where it has the state in it, made anew."""
        cached = self._prompts.get(instruction)
        if cached is not None:
            return cached
        c = self.checkpoint.config
        values = None
        if self.prompt_state:
            values = self._state_norm.normalize_for_prompt(state)
            values = np.pad(values, (0, self.prompt_state - len(values)))
        tokens = tokenize(
            self._tokenizer,
            instruction,
            cleans=self.checkpoint.cleans_prompt,
            length=c.prompt_length,
            vocab_size=c.vocab_size,
            state=values,
        )
        prompt = self.graphs.prompt(tokens, len(self.cameras))
        if values is None:
            # Bounded: a node may run for weeks.
            if len(self._prompts) >= 64:
                self._prompts.pop(next(iter(self._prompts)))
            self._prompts[instruction] = prompt
        return prompt

    @torch.inference_mode()
    def _warm_up(self) -> None:
        """Infer on black images once per graph, so that all are compiled before a real one.

        Raises:
            CheckpointError: the actions are not finite.
        """
        black = np.zeros((480, 640, 3), np.uint8)
        state = self._units.to_radians(self._state_norm.unnormalize(np.zeros(self.num_joints)))
        images = dict.fromkeys(self.cameras, black)
        request = ChunkRequest(Observation(images, state, WARM_UP_INSTRUCTION))
        graphs = [(n, size) for n in self.graphs.prompt_lengths() for size in self.batch_sizes]
        chunks: list[ActionChunk] = []
        for length, size in progress(graphs, desc="compiling graphs", unit="graph"):
            tokens = torch.zeros(1, length, dtype=torch.int64)
            self._prompts[WARM_UP_INSTRUCTION] = self.graphs.prompt(tokens, len(self.cameras))
            try:
                chunks += self.infer_batch([request] * size)
            except Exception:
                # A graph from disk may be damaged in ways that its compiler does not notice.
                if not self.graphs.drop_cache():
                    raise
                _LOG.warning("a cached graph cannot be used; compiling anew", exc_info=True)
                chunks += self.infer_batch([request] * size)
        self._prompts.pop(WARM_UP_INSTRUCTION, None)
        if self.graphs.is_eager:
            chunks += self.infer_batch([request])
        if not all(np.isfinite(chunk.positions).all() for chunk in chunks):
            raise CheckpointError(
                f"{self.checkpoint.path}: its actions for black images are not finite: weights are"
                " NaN or infinite, or too large for this dtype; export the checkpoint anew, or use"
                " dtype float32 if it is bfloat16"
            )
