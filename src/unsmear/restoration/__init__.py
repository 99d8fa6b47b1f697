"""Running a network over clips: streams of frames, then whole files."""

DEFAULT_BURST = 2
"""Restored frames on each side that lend to each frame, unless the user says otherwise."""
