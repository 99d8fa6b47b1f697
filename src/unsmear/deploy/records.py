"""Records of speed and memory that benchmarks write, and their tables."""

from __future__ import annotations

from dataclasses import dataclass

from unsmear.engines import EngineName
from unsmear.evaluate.origin import Origin
from unsmear.restoration.stream import Window


@dataclass(frozen=True)
class EngineTime:
    """Time of an engine for one frame of a stream: encoded once, restored once.

    Attributes:
        engine: its name.
        seconds: median over the runs; None: it cannot run here.
        gmac_per_second: of the network's arithmetic.
        share_of_peak: fraction of the best that float32 convolutions reach here.
        why_not: the reason why it cannot run.
    """

    engine: EngineName
    seconds: float | None = None
    gmac_per_second: float | None = None
    share_of_peak: float | None = None
    why_not: str = ""


@dataclass(frozen=True)
class EndToEnd:
    """A video restored from file to file.

    Attributes:
        engine: its name.
        frames: number of frames in the clip.
        seconds: per frame, without loading and start-up.
        restoring_seconds: per frame for restoration alone (network and burst), measured
            alternately with the whole in the same run.
        burst: restored neighbours on each side that a frame is fused with.
        refine: number of refinement passes.
        polish: whether a network corrected what was fused.
        reblur: whether frames were corrected by reblurring.
    """

    engine: str
    frames: int
    seconds: float
    restoring_seconds: float
    burst: int = 0
    refine: int = 0
    polish: bool = False
    reblur: bool = False

    @property
    def overhead(self) -> float:
        """Share of the time that is not restoration. Negative if the machine was busier while
        restoration alone was timed, or if the clip was too short to measure it.
        """
        return 1 - self.restoring_seconds / self.seconds


@dataclass(frozen=True)
class BenchRecord:
    """One run of the benchmark.

    Attributes:
        model: its name.
        width: of the frames in pixels.
        height: of the frames in pixels.
        threads: of torch and the engines.
        peak_gmac_per_second: the best that a float32 convolution reached.
        engines: in the order asked for.
        end_to_end: of the fastest engine.
        origin: machine, versions, command, date.
    """

    model: str
    width: int
    height: int
    threads: int
    peak_gmac_per_second: float
    engines: tuple[EngineTime, ...]
    end_to_end: EndToEnd | None
    origin: Origin


def bench_lines(record: BenchRecord) -> list[str]:
    """The record as Markdown."""
    base = next((row.seconds for row in record.engines if row.seconds), None)
    lines = [
        f"`{record.model}`, {record.width}x{record.height}, {record.threads} threads. Peak of "
        f"float32 convolutions: {record.peak_gmac_per_second:.0f} GMAC per second.",
        "",
        "| engine | ms per frame | frames per second | speed, relative to the first row "
        "| GMAC per second | share of the peak |",
        "|---|---|---|---|---|---|",
    ]
    for row in record.engines:
        if row.seconds is None or base is None:
            lines.append(f"| {row.engine} | - | - | - | - | {row.why_not} |")
        else:
            lines.append(
                f"| {row.engine} | {1e3 * row.seconds:.0f} | {1 / row.seconds:.2f} "
                f"| {base / row.seconds:.2f} | {row.gmac_per_second:.0f} "
                f"| {100 * (row.share_of_peak or 0):.0f} % |"
            )
    whole = record.end_to_end
    if whole is not None:
        lines += [
            "",
            f"From file to file with {whole.engine}, {whole.frames} frames, burst {whole.burst}"
            + (f", refined {whole.refine}x" if whole.refine else "")
            + (", polished" if whole.polish else "")
            + (", reblurred: " if whole.reblur else ": ")
            + f"{1 / whole.seconds:.2f} frames per second. "
            + (
                f"Reading, writing and the rest take {100 * whole.overhead:.0f} % of the time "
                "(restoration alone was timed alternately, in the same run)."
                if whole.overhead >= 0
                else "Reading, writing and the rest take less time than can be measured here."
            ),
        ]
    return lines


@dataclass(frozen=True)
class ClipRun:
    """A clip that was restored from file to file.

    Attributes:
        width: of the frames in pixels.
        height: of the frames in pixels.
        frames: number of frames in the clip.
        peak: peak resident memory, MiB.
        seconds: wall-clock time, with start-up, decoding and encoding.
    """

    width: int
    height: int
    frames: int
    peak: float
    seconds: float


@dataclass(frozen=True)
class MemoryRecord:
    """One run of `benchmarks/memory.py`.

    Attributes:
        model: its name.
        engine: as asked for.
        runs: for each frame size, the shorter clip first.
        origin: machine, versions, command, date.
        ensemble: views of each frame.
        refine: number of refinement passes.
    """

    model: str
    engine: str
    runs: tuple[ClipRun, ...]
    origin: Origin
    ensemble: int = 1
    refine: int = 0


def _rate(frames: float) -> str:
    """Frames per second; below 0.1 with two significant digits."""
    return f"{frames:.2f}" if frames >= 0.1 else f"{frames:.2g}"


def memory_lines(record: MemoryRecord) -> list[str]:
    """The record as Markdown."""
    effort = "" if record.ensemble == 1 else f" and an ensemble of {record.ensemble}"
    effort += f", refined {record.refine}x" if record.refine else ""
    lines = [
        f"`{record.model}` with engine `{record.engine}`{effort}, from file to file.",
        "",
        "| size | frames | peak MiB | relative to the shorter clip | frames per second |",
        "|---|---|---|---|---|",
    ]
    shorter: dict[tuple[int, int], ClipRun] = {}
    for run in record.runs:
        base = shorter.setdefault((run.width, run.height), run)
        ratio = "-" if base is run else f"{run.peak / base.peak:.3f}"
        lines.append(
            f"| {run.width}x{run.height} | {run.frames} | {run.peak:.0f} | {ratio} "
            f"| {_rate(run.frames / run.seconds)} |"
        )
    return lines


@dataclass(frozen=True)
class WindowTime:
    """Seconds per frame.

    Attributes:
        window: frames, or `all`.
        watching: of the first pass, 0 if there is none.
        restoring: of the pass that restores.
    """

    window: Window
    watching: float
    restoring: float


@dataclass(frozen=True)
class WindowRecord:
    """One run of `benchmarks/windows.py`.

    Attributes:
        model: its name.
        engine: as asked for.
        width: of the frames in pixels.
        height: of the frames in pixels.
        frames: number of frames in the clip.
        rows: the first is the one that others are compared with.
        origin: machine, versions, command, date.
    """

    model: str
    engine: str
    width: int
    height: int
    frames: int
    rows: tuple[WindowTime, ...]
    origin: Origin


def window_lines(record: WindowRecord) -> list[str]:
    """The record as Markdown."""
    base = record.rows[0].watching + record.rows[0].restoring
    return [
        f"`{record.model}` with engine `{record.engine}`, {record.frames} frames of "
        f"{record.width}x{record.height}, without decoding and encoding. The window `all` takes "
        "two passes. Factors are relative to the first row.",
        "",
        "| window | first pass, ms per frame | restoration, ms per frame | restoration alone "
        "| in total |",
        "|---|---|---|---|---|",
        *(
            f"| {row.window} | {1e3 * row.watching:.0f} | {1e3 * row.restoring:.0f} "
            f"| {row.restoring / base:.2f} times "
            f"| {(row.watching + row.restoring) / base:.2f} times |"
            for row in record.rows
        ),
    ]
