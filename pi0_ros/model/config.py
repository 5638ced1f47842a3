"""Variant and sizes of a pi0 model."""

from dataclasses import dataclass, replace

VARIANTS = ("pi0", "pi05")


@dataclass(frozen=True)
class Pi0Config:
    """Sizes of pi0 (Black et al. 2024, "pi0: A Vision-Language-Action Flow Model") and of pi0.5
    (Physical Intelligence 2025, "pi0.5: a VLA with Open-World Generalization").

    The defaults are the published model: SigLIP So400m/14 and Gemma 2B as the prefix expert, a 300M
    Gemma as the action expert (openpi `gemma_2b`, `gemma_300m`). The number of cameras is not a
    size of the model: it follows from the images given to it.

    Attributes:
        variant: `pi0`, or `pi05`: its action expert has adaptive norms, by which the flow time
            enters, and no state token; the state stands in the prompt, in words.
        image_size: side of the square input image, pixels; a multiple of `patch_size`.
        vision_*: the SigLIP tower. `vision_mlp` is the hidden width of its feed-forward layers.
        prefix_*, expert_*: width of the residual stream and hidden width of the feed-forward layers
            of the two Gemma experts. They share `depth`, `heads`, `kv_heads` and `head_dim`, since
            they attend to each other layer by layer.
        max_state_dim, max_action_dim: what states and actions are padded to with zeros.
        horizon: number of action steps in a chunk.
        prompt_length: most prompt tokens; longer prompts are cut.
        num_steps: number of denoise steps (Euler steps of the flow from t = 1 to t = 0).
        min_period, max_period: of the sinusoids that encode the flow time.
    """

    variant: str = "pi0"

    image_size: int = 224
    patch_size: int = 14
    vision_width: int = 1152
    vision_mlp: int = 4304
    vision_depth: int = 27
    vision_heads: int = 16

    vocab_size: int = 257152
    prefix_width: int = 2048
    prefix_mlp: int = 16384
    expert_width: int = 1024
    expert_mlp: int = 4096
    depth: int = 18
    heads: int = 8
    kv_heads: int = 1
    head_dim: int = 256

    max_state_dim: int = 32
    max_action_dim: int = 32
    horizon: int = 50
    prompt_length: int = 48
    num_steps: int = 10
    min_period: float = 4e-3
    max_period: float = 4.0

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(
                f"Pi0Config.variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}"
            )
        for name, divisor in (
            ("image_size", self.patch_size),
            ("vision_width", self.vision_heads),
            ("heads", self.kv_heads),
            ("head_dim", 2),
            ("expert_width", 2),
        ):
            if getattr(self, name) % divisor:
                raise ValueError(
                    f"Pi0Config.{name} = {getattr(self, name)} must be a multiple of {divisor}"
                )

    @property
    def pi05(self) -> bool:
        return self.variant == "pi05"

    @property
    def tokens_per_image(self) -> int:
        return (self.image_size // self.patch_size) ** 2


PI05 = Pi0Config(variant="pi05", prompt_length=200)
"""The published pi0.5."""

TINY = Pi0Config(
    image_size=64,
    patch_size=8,
    vision_width=64,
    vision_mlp=128,
    vision_depth=2,
    vision_heads=4,
    vocab_size=256,
    prefix_width=64,
    prefix_mlp=256,
    expert_width=64,
    expert_mlp=256,
    depth=4,
    heads=4,
    kv_heads=1,
    head_dim=32,
)
"""A model small enough for a laptop's CPU and for tests: under a million parameters."""

TINY_PI05 = replace(TINY, variant="pi05", prompt_length=200, vocab_size=512)
"""The same of pi0.5."""
