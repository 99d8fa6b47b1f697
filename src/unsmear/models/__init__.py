"""The method: attention, layers, the network, the zoo of trained networks, weights files."""
