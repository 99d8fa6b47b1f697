"""Runs a network over clips: streams of frames and whole files."""

DEFAULT_BURST = 2
"""Default number of restored neighbours on each side that the burst step fuses into a frame."""
