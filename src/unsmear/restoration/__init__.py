"""Running a network over clips: streams of frames, then whole files."""
