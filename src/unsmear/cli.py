"""The command line. Everything heavy is imported when a command needs it, not before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from unsmear import __version__, research
from unsmear.errors import UnsmearError
from unsmear.research import Device

if TYPE_CHECKING:
    from unsmear.restoration.files import Progress as FileProgress

USAGE_ERROR = 2
_FRAMES_BETWEEN_TRIMS = 16
INTERRUPTED = 130

app = App(
    name="unsmear",
    version=__version__,
    help="Make blurry video sharp: `unsmear shaky.mp4 -o sharp.mp4`",
)
_out = Console()
_err = Console(stderr=True)

app.command(research.train)
app.command(research.synth)
app.command(research.evaluate, name="eval")
app.command(research.explain)


@app.default
def restore(
    clip: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    model: Annotated[str, Parameter(alias="-m")] = "lite",
    device: Device = "auto",
    window: str | None = None,
    tile: str = "auto",
    compare: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Restore a video, or a folder of pictures in the order of their names.

    Every frame keeps its time stamp; audio is copied as it is.

    Args:
        clip: Video file, or folder of pictures.
        output: Video file (.mp4, .mov, .m4v, .mkv, .webm), or a folder (no suffix) for PNG
            pictures. Default: the input's name with `.sharp` before the suffix.
        model: Name from `unsmear models`, or the path of a .safetensors file.
        device: Where to work.
        window: Frames that contribute to each one, an odd number, or `all`, which reads the video
            twice. Scenes never mix. Default: the model's own.
        tile: Size of the tiles that large frames are worked on in, WIDTHxHEIGHT, `auto` or `off`.
            The result is the same, memory is not.
        compare: Also write before and after side by side, named `.compare` before the suffix.
        overwrite: Replace a result that exists.
    """
    from unsmear.allocator import hand_memory_back
    from unsmear.restoration.api import restore_video
    from unsmear.restoration.stream import parse_window
    from unsmear.restoration.tiles import parse_tiling

    hand_memory_back()
    target = output or _default_output(clip)
    with _FileBar(clip.name) as bar:
        frames = restore_video(
            clip,
            target,
            model=model,
            device=device,
            window=None if window is None else parse_window(window),
            tiling=parse_tiling(tile),
            compare=compare,
            overwrite=overwrite,
            on_progress=bar.show,
        )
    _out.print(f"{frames} frames restored: {target}", highlight=False, soft_wrap=True)


def _default_output(clip: Path) -> Path:
    from unsmear.video.writer import VIDEO_CONTAINERS

    if clip.is_dir():
        return clip.resolve().with_name(f"{clip.resolve().name}_sharp")
    suffix = clip.suffix if clip.suffix.lower() in VIDEO_CONTAINERS else ".mp4"
    return clip.with_name(f"{clip.stem}.sharp{suffix}")


@app.command
def models() -> None:
    """List the networks there are."""
    from rich.table import Table

    from unsmear.models.network import DeblurNetwork, count_macs, count_parameters
    from unsmear.models.zoo import ZOO, released_provenance

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("model", "parameters", "GMAC", "window", "weights", "for whom"):
        table.add_column(column, justify="left" if column in ("model", "for whom") else "right")
    import torch

    for entry in ZOO.values():
        with torch.device("meta"):
            parameters = count_parameters(DeblurNetwork(entry.config))
        origin = released_provenance(entry)
        table.add_row(
            entry.name,
            f"{parameters / 1e6:.1f} M",
            f"{count_macs(entry.config) / 1e9:.1f}",
            str(entry.window),
            f"{origin.total_steps:,} steps" if origin else "none yet",
            entry.summary,
        )
    _out.print(table)
    _out.print("GMAC: billions of multiply-accumulates for a frame of 256x256", highlight=False)


@app.command
def demo(
    clip: Path | None = None,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")] = Path("demo-out"),
    model: Annotated[str, Parameter(alias="-m")] = "lite",
    device: Device = "auto",
) -> None:
    """Make a shaky clip from public-domain photographs, restore it, measure and show it.

    Args:
        clip: A clip of your own instead.
        output: Folder for the results; earlier results in it are replaced.
        model: Name from `unsmear models`, or the path of a .safetensors file.
        device: Where to work.
    """
    from unsmear.allocator import hand_memory_back
    from unsmear.demo import run_demo
    from unsmear.restoration.api import open_model

    hand_memory_back()
    loaded = open_model(model, device)
    with _FileBar(clip.name if clip else "demo clip") as bar:
        result = run_demo(output, loaded, clip, bar.show)
    if result.psnr and result.ssim:
        (before, after), (ssim_before, ssim_after) = result.psnr, result.ssim
        _out.print(
            f"PSNR {before:.2f} -> {after:.2f} dB ({after - before:+.2f}), "
            f"SSIM {ssim_before:.4f} -> {ssim_after:.4f}, mean of {result.frames} frames",
            highlight=False,
        )
    for label, path in (
        ("restored clip", result.restored),
        ("side by side", result.comparison),
        ("picture", result.picture),
    ):
        _out.print(f"{label:>14}: {path}", highlight=False, soft_wrap=True)


class _FileBar:
    """Progress of a file: frames, frames a second, time left. Silent where nobody watches."""

    def __init__(self, name: str) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=_err,
            disable=not _err.is_terminal,
        )
        self._name = name
        self._task = self._bar.add_task(name, total=None, speed="")

    def show(self, progress: FileProgress) -> None:
        """Take a report from `restore_file`; each of its passes has the bar to itself."""
        from unsmear.allocator import return_freed_pages

        if progress.done % _FRAMES_BETWEEN_TRIMS == 0:
            return_freed_pages()
        if progress.done == 0:
            label = self._name if progress.doing == "restoring" else f"{self._name}, first pass"
            self._bar.reset(self._task, description=label, total=None)
        task = self._bar.tasks[0]
        speed = f"{task.speed:.2f} frames/s" if task.speed else ""
        total = max(progress.expected, progress.done) if progress.expected else None
        self._bar.update(self._task, completed=progress.done, total=total, speed=speed)

    def __enter__(self) -> _FileBar:
        self._bar.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        self._bar.stop()


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors that users can mend are one line and exit code 2."""
    try:
        app(
            arguments,
            exit_on_error=False,
            print_error=False,
            error_console=_err,
            result_action="return_value",
        )
    except (UnsmearError, CycloptsError) as error:
        message = " ".join(str(error).split())
        _err.print(f"[bold red]unsmear:[/] {_plain(message)}", highlight=False, soft_wrap=True)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        _err.print("unsmear: interrupted", highlight=False)
        sys.exit(INTERRUPTED)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
