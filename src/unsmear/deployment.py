"""Commands for running models elsewhere, or faster: quantize, export, bench."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.markup import escape

from unsmear.arguments import Device, MaybeWhole, Paths, Whole, weights_named
from unsmear.clip import MOST_PIXELS
from unsmear.display import err, say
from unsmear.engines import EngineName
from unsmear.errors import ConfigError
from unsmear.models import DEFAULT_MODEL
from unsmear.outputs import check_file, real_path, write_text
from unsmear.restoration import DEFAULT_BURST

_CPU_ENGINES: list[EngineName] = [
    "torch",
    "torch-half",
    "openvino",
    "openvino-int8",
    "onnxruntime",
]
_GPU_ENGINES: list[EngineName] = ["torch", "torch-half", "torch-compile"]


def quantize(
    model: str,
    /,
    *,
    clips: Paths,
    val: Path,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    frames: Whole = 3,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Quantize a model to 8 bits, for the engine openvino-int8.

    Ranges are calibrated on real frames. Parts of the network stay in float32 as needed, so that
    no sequence of --val loses 0.1 dB of PSNR. If no part can be quantized, nothing is written.

    Args:
        model: Name of a model (see `unsmear models`), or path of a .safetensors file.
        clips: Blurry videos, or folders of blurry images, to calibrate ranges on.
        val: Validation set: folder of paired blurry and sharp sequences.
        output: Output .safetensors file. Default: WEIGHTS.int8.safetensors beside the weights, the
            only place where the engine looks for it.
        frames: Number of frames to take from each clip.
        overwrite: Overwrite an existing file.
    """
    from unsmear.data.pairs import some_pairs
    from unsmear.deploy.quantize import quantize_model, read_frames
    from unsmear.engines.eight_bit import eight_bit_path, psnr_loss
    from unsmear.evaluate.programs import at_least
    from unsmear.models.zoo import load_model

    at_least(1, frames=frames)
    loaded = load_model(model)
    assert loaded.weights is not None
    place = eight_bit_path(loaded.weights)
    path = place if output is None else output
    check_file(
        path,
        inputs=(*clips, val, loaded.weights),
        suffixes=(".safetensors",),
        overwrite=overwrite,
    )
    sequences = some_pairs(val)
    found = read_frames(clips, frames)
    with err.status("quantizing") as status:
        made = quantize_model(
            loaded.network, loaded.window, found, sequences, path, on_note=status.update
        )
    say(f"quantized to 8 bits: {', '.join(made.eight_bit)}", wrap=True)
    for name, (full, eight) in made.origin.scores.items():
        say(
            f"{name}: {full:.2f} -> {eight:.2f} dB ({0.0 - psnr_loss(full, eight):+.3f})", wrap=True
        )
    say(f"written: {path}")
    if real_path(path) != real_path(place):
        say(f"the engine openvino-int8 reads only '{place}': move this file there to use it")


def export(
    model: str,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    format: Literal["onnx", "openvino"] = "onnx",
) -> None:
    """Export a model as ONNX or OpenVINO graphs, and check them against the original.

    Writes two graphs that take frames of any size: `encode`, run once for each frame, and
    `restore`, run on a frame and its window. model.json describes their inputs; docs/export.md
    shows how to use them.

    Args:
        model: Name of a model (see `unsmear models`), or path of a .safetensors file.
        output: New folder for the graphs.
        format: Format of the graphs: onnx, or openvino (IR).
    """
    from unsmear.deploy.export import check_target
    from unsmear.deploy.export import export as write
    from unsmear.models.zoo import load_model

    check_target(output)
    with err.status(f"exporting {escape(model)}"):
        difference = write(load_model(model), format, output)
    say(f"written: {output}; largest difference from the model {difference:.1e} (values 0 to 1)")


def bench(
    *,
    model: Annotated[str, Parameter(alias="-m")] = DEFAULT_MODEL,
    size: str = "1280x720",
    engines: Annotated[
        list[EngineName] | None, Parameter(consume_multiple=True, negative="")
    ] = None,
    device: Device = "auto",
    rounds: Whole = 5,
    frames: Whole = 24,
    refine: Whole = 0,
    burst: Whole = DEFAULT_BURST,
    polish: Annotated[bool, Parameter(negative="")] = False,
    reblur: Annotated[bool, Parameter(negative="")] = False,
    threads: MaybeWhole = None,
    json: Path | None = None,
) -> None:
    """Measure the speed of each engine on this machine, and the cost of decoding and encoding.

    Args:
        model: Name of a model (see `unsmear models`), or path of a .safetensors file. A model
            without weights is measured with random ones.
        size: Frame size, WIDTHxHEIGHT.
        engines: Engines to measure. Default: all that are available for the device; torch-compile
            only on a GPU.
        device: Where to run.
        rounds: Number of measurements of each engine; the median is reported.
        frames: Number of frames of the clip that is restored from file to file; 0 skips it.
        refine: Number of additional passes over this clip, as in `unsmear CLIP`.
        burst: Number of restored neighbours on each side for this clip, as in `unsmear CLIP`.
        polish: Also correct each frame of this clip after that, as in `unsmear CLIP`.
        reblur: Also correct each frame of this clip at the end, as in `unsmear CLIP`.
        threads: Number of CPU threads. Default: all.
        json: Also write the results to this JSON file.
    """
    import torch

    from unsmear.allocator import return_freed_memory
    from unsmear.deploy.bench import convolution_peak, time_end_to_end, time_engines
    from unsmear.deploy.records import BenchRecord, bench_lines
    from unsmear.device import use_threads
    from unsmear.engines.choice import placed
    from unsmear.evaluate.origin import origin_of
    from unsmear.evaluate.programs import at_least
    from unsmear.evaluate.records import record_as_json
    from unsmear.models.zoo import ANCESTORS, ZOO, load_model, random_model
    from unsmear.restoration.quality import QualityOptions

    width, height = _parse_size(size)
    at_least(1, rounds=rounds)
    at_least(0, frames=frames)
    quality = QualityOptions(refine=refine, burst=burst, polish=polish, reblur=reblur)
    if threads is not None:
        use_threads(threads)
    if json is not None:
        check_file(json, inputs=[weights_named(model)])
    return_freed_memory()
    known = (ZOO | ANCESTORS).get(model)
    loaded = random_model(model) if known and not known.weights.is_file() else load_model(model)
    loaded = placed(loaded, device)
    quality.check(loaded.network)
    where = next(loaded.network.parameters()).device
    names = engines or (_CPU_ENGINES if where.type == "cpu" else _GPU_ENGINES)
    with err.status("measuring peak throughput") as status:
        peak = convolution_peak(where)
        rows, opened = time_engines(
            loaded, names, width, height, rounds=rounds, peak=peak,
            on_round=lambda done: status.update(f"round {done} of {rounds}"),
        )  # fmt: skip
        ran = [row for row in rows if row.seconds is not None]
        if not ran:
            reasons = "; ".join(f"{row.engine}: {row.why_not}" for row in rows)
            raise ConfigError(f"none of these engines runs here: {reasons}")
        whole = None
        if frames:
            fastest = min(ran, key=lambda row: row.seconds or 0)
            status.update(f"restoring a video with {fastest.engine}")
            whole = time_end_to_end(
                opened[fastest.engine], loaded.window, width, height, frames=frames,
                rounds=max(rounds // 2, 1), quality=quality,
            )  # fmt: skip
    record = BenchRecord(
        loaded.name, width, height, torch.get_num_threads(), peak, rows, whole, origin_of(where)
    )
    say("\n".join(bench_lines(record)))
    if json is not None:
        write_text(json, record_as_json(record))
        say(f"written: {json}")


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text, re.ASCII)
    if match is None or min(int(match[1]), int(match[2])) < 16:
        raise ConfigError(
            f"size is '{text}': must be WIDTHxHEIGHT, each at least 16, such as 1280x720"
        )
    width, height = int(match[1]), int(match[2])
    if width * height > MOST_PIXELS:
        raise ConfigError(
            f"size is {text}: must be at most {MOST_PIXELS:,} pixels, such as 7680x4320"
        )
    return width, height
