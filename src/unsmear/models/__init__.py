"""The method: attention, layers, the network, the zoo of trained networks, weights files."""

DEFAULT_MODEL = "core"
"""The row of the zoo that restores where no other is named."""
