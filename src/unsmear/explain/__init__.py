"""Shows what the attention did for one frame: its maps, their effect, the restored frame."""
