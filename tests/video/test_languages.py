"""Languages of streams in MOV, some of which have their own spelling."""

from __future__ import annotations

import io

import av
import pytest

from unsmear.video.languages import _KNOWN, macintosh_language


def test_every_spelling_is_the_muxers():
    """The muxer keeps each of them, on a track of its own."""
    contents, known = io.BytesIO(), sorted(_KNOWN)
    with av.open(contents, "w", format="mov") as container:
        tracks = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in known]
        for track, language in zip(tracks, known, strict=True):
            track.metadata["language"] = language
        for track in tracks:
            frame = av.AudioFrame(format="s16", layout="mono", samples=8)
            frame.sample_rate, frame.pts = 8000, 0
            container.mux(track.encode(frame))
    contents.seek(0)
    with av.open(contents) as container:
        assert [track.metadata.get("language") for track in container.streams] == known


@pytest.mark.parametrize(
    ("said", "written"),
    [("deu", "ger"), ("ger", "ger"), ("fre", "fra"), ("zho", "chi"), ("swe", "sve"), ("tlh", None)],
)
def test_a_language_has_the_spelling_of_mov_or_none(said, written):
    assert macintosh_language(said) == written
