"""Unsmear makes blurry video sharp: `unsmear shaky.mp4 -o sharp.mp4`.

In Python: `unsmear.restore` for an iterable of frames, `unsmear.restore_video` for files. Their
errors derive from `unsmear.UnsmearError`; each message is one line that names the remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unsmear.errors import UnsmearError

if TYPE_CHECKING:
    from unsmear.engines.choice import open_model
    from unsmear.restoration.api import restore, restore_video
    from unsmear.restoration.settings import Settings

__version__ = "0.1.0"
__all__ = ["Settings", "UnsmearError", "__version__", "open_model", "restore", "restore_video"]


if not TYPE_CHECKING:  # type checkers would take any name for one of the module's

    def __getattr__(name: str) -> Any:  # lazy: importing torch takes seconds
        if name in __all__:
            from unsmear.restoration import api

            return getattr(api, name)
        raise AttributeError(f"module 'unsmear' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
