"""Shows what the attention did for one frame: maps, what they reached, what came of it."""
