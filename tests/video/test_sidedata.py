"""Metadata of frames that cannot be kept."""

from __future__ import annotations

import av
import pytest
from av.sidedata.sidedata import Type

from unsmear.video import sidedata


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Type.DYNAMIC_HDR_PLUS, "HDR10+"),
        (Type.DYNAMIC_HDR_VIVID, "HDR Vivid"),
        (Type.DOVI_METADATA, "Dolby Vision"),
        (Type.DOVI_RPU_BUFFER, "Dolby Vision"),
        (Type.STEREO3D, "stereoscopic"),
        (Type.SPHERICAL, "spherical"),
        (Type.A53_CC, "captions"),
        (Type.ICC_PROFILE, "ICC"),
    ],
)
def test_what_is_not_kept_is_named(monkeypatch, kind, name):
    """Found by its kind alone: there are no samples of most."""
    monkeypatch.setattr(sidedata, "side_data_of", lambda frame: {kind: b""})
    (told,) = sidedata.lost_side_data(av.VideoFrame(16, 16))
    assert name in told
