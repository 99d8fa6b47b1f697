"""Training: presets, losses, the loop, checkpoints for exact resume."""
