"""Techniques that fuse a window of frames, with one interface and in one backbone, to compare them
with the attention of arXiv 2201.00169.
"""

from unsmear.models.fusion.base import Fusion
from unsmear.models.fusion.network import (
    FUSIONS,
    FusionConfig,
    FusionNetwork,
    balanced,
    count_fusion_macs,
)

__all__ = [
    "FUSIONS",
    "Fusion",
    "FusionConfig",
    "FusionNetwork",
    "balanced",
    "count_fusion_macs",
]
