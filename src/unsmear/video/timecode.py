"""Time codes (SMPTE ST 12-1): the number of the first frame of a recording on a clock of frames."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

_CODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d{1,3})")
_HOURS = 24


def with_later_time_code(
    metadata: Mapping[str, str], frames: int, rate: Fraction | None
) -> dict[str, str]:
    """Copy metadata, with the time code moved to a later frame. One that cannot be moved is left
    out.

    Args:
        metadata: of a stream or a file.
        frames: frames cut off at the beginning.
        rate: frames per second, None if unknown.
    """
    moved = {}
    for key, text in metadata.items():
        if key.lower() != "timecode":
            moved[key] = text
        elif rate and (code := later(text, frames, rate)):
            moved[key] = code
    return moved


def later(code: str, frames: int, rate: Fraction) -> str | None:
    """Move a time code by a number of frames; None if it is not a valid time code.

    Drop-frame time codes (with `;` or `.`) skip numbers, so that 29.97 or 59.94 frames per second
    keep up with the clock: the first two of each minute (four at 60), except every tenth minute.
    """
    found, each = _CODE.fullmatch(code.strip()), round(rate)
    if found is None or int(found[5]) >= each:
        return None
    dropped = 2 * each // 30 if found[4] != ":" and each % 30 == 0 else 0
    a_minute, ten_minutes = 60 * each - dropped, 600 * each - 9 * dropped
    minutes = 60 * int(found[1]) + int(found[2])
    number = (60 * minutes + int(found[3])) * each + int(found[5])
    number += frames - dropped * (minutes - minutes // 10)
    tens, rest = divmod(number % (6 * _HOURS * ten_minutes), ten_minutes)
    # The first of ten minutes skips no numbers.
    passed = max(rest - dropped, 0) // a_minute if dropped else 0
    number = tens * 600 * each + rest + dropped * passed
    seconds, frame = divmod(number, each)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{found[4]}{frame:0{len(found[5])}}"
