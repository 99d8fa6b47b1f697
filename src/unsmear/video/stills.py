"""What becomes of a video in a folder of images: how they are rotated, and what is not kept."""

from __future__ import annotations

from pathlib import Path

from unsmear.clip import ClipInfo, HdrMetadata
from unsmear.video.color import HDR_CURVES
from unsmear.video.opening import open_container, video_streams
from unsmear.video.orientation import UPRIGHT, orientation_of
from unsmear.video.reader import VideoReader

_WORDS = {
    2: "mirrored", 3: "rotated by 180 degrees", 4: "rotated by 180 degrees and mirrored",
    5: "rotated by 90 degrees and mirrored", 6: "rotated by 90 degrees clockwise",
    7: "rotated by 90 degrees and mirrored", 8: "rotated by 90 degrees anticlockwise",
}  # fmt: skip


def image_notes(reader: VideoReader, target: Path) -> list[str]:
    """Messages for the user when the result is a folder of images.

    Args:
        reader: the opened video.
        target: the folder.
    """
    info, notes = reader.info, geometry_notes(reader.info)
    with open_container(reader.path) as container:
        missing = [
            name
            for name, there in (
                ("sound", container.streams.audio),
                ("subtitles", container.streams.subtitles),
                ("other video streams", len(video_streams(container)) > 1),
                ("chapters", container.chapters()),
            )
            if there
        ]
    if missing:
        none = ", ".join(f"no {name}" for name in missing)
        notes.append(
            f"'{target}' becomes a folder of images, which has {none}: for a video, give a file "
            f"name, such as '{target}.mp4', or a folder name ending in /"
        )
    curve = HDR_CURVES.get(info.tags.transfer)
    if curve or info.hdr != HdrMetadata():
        kind = f"HDR ({curve})" if curve else "HDR10"
        notes.append(f"images are not tagged as {kind}: most programs show them too pale")
    return notes


def geometry_notes(info: ClipInfo) -> list[str]:
    """Messages about the rotation and the shape of pixels."""
    orientation, notes = orientation_of(info.display_matrix), []
    if orientation is None:
        notes.append("the video is displayed at an angle: images are not rotated")
    elif orientation != UPRIGHT:
        notes.append(f"images are {_WORDS[orientation]}, as players display the video")
    if info.pixel_aspect and info.pixel_aspect != 1:
        notes.append(f"the pixel aspect ratio, {info.pixel_aspect}, is not kept in images")
    return notes
