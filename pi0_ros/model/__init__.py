"""pi0 as tensors: sizes, vision tower, two experts, flow matching, operators; torch only."""
