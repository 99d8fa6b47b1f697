"""The method: attention, layers, the network, the zoo of networks, and weights files."""

DEFAULT_MODEL = "core"
"""The model (a row of the zoo) that is used by default."""
