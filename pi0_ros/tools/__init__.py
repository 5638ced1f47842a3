"""Commands around the policy: checkpoints to try it with, benchmarks, reports."""
