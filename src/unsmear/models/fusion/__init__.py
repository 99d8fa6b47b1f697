"""Techniques that fuse a window of frames, behind one interface and in one backbone, for the
comparison that arXiv 2201.00169 claims to win.
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
