"""What a video holds that images made from it do not."""

from __future__ import annotations

from pathlib import Path

from unsmear.clip import HdrMetadata
from unsmear.video.color import HDR_CURVES
from unsmear.video.opening import open_container, video_streams
from unsmear.video.reader import VideoReader


def lost_in_pictures(reader: VideoReader, target: Path) -> list[str]:
    """Messages for the user when the result is a folder of images.

    Args:
        reader: the opened video.
        target: the folder.
    """
    info, notes = reader.info, []
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
