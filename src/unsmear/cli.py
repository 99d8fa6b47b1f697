"""The command line. Heavy modules are imported only when a command needs them."""

from __future__ import annotations

import glob
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from unsmear import __version__, command, deployment, info, research, training
from unsmear.arguments import Device
from unsmear.clip import MOST_PIXELS
from unsmear.display import Bar, JsonLines, err, listed, out, resilient_streams, say, show_error
from unsmear.engines import EngineName
from unsmear.errors import (
    INTERRUPTED,
    USAGE_ERROR,
    ConfigError,
    OutputError,
    UnsmearError,
    as_user_error,
)
from unsmear.models import DEFAULT_MODEL

app = App(
    name="unsmear",
    suppress_keyboard_interrupt=False,  # handled below, with a message
    version=__version__,
    # File names may begin with a bracket, which Cyclopts would parse as JSON.
    default_parameter=Parameter(json_list=False, json_dict=False),
    help="Make blurry video sharp: `unsmear shaky.mp4 -o sharp.mp4`",
)

app.default(command.restore)
app.command(training.train)
app.command(training.synth)
app.command(research.evaluate, name="eval")
app.command(info.info)
app.command(research.explain)
app.command(deployment.quantize)
app.command(deployment.export)
app.command(deployment.bench)


@app.command
def models() -> None:
    """List the available models."""
    import torch
    from rich.console import JustifyMethod
    from rich.table import Table

    from unsmear.models.count import count_macs, count_parameters
    from unsmear.models.network import DeblurNetwork
    from unsmear.models.zoo import ZOO, released_provenance

    headings = ("model", "parameters", "GMAC", "window", "weights", "description")
    rows = []
    for entry in ZOO.values():
        with torch.device("meta"):
            parameters = count_parameters(DeblurNetwork(entry.config))
        origin = released_provenance(entry)
        row = (
            f"{entry.name} (default)" if entry.name == DEFAULT_MODEL else entry.name,
            f"{parameters / 1e6:.1f} M",
            f"{count_macs(entry.config) / 1e9:.1f}",
            str(entry.window),
            f"{origin.total_steps:,} steps" if origin else "none yet",
            entry.summary,
        )
        rows.append(row)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        justify: JustifyMethod = "left" if heading in ("model", "description") else "right"
        table.add_column(heading, justify=justify, no_wrap=heading != "description")
    for row in rows:
        table.add_row(*row)
    *columns, _ = zip(headings, *rows, strict=True)
    left = out.width - sum(max(map(len, column)) + 2 for column in columns)  # for the description
    out.print(table if left >= 16 else listed(headings, rows))
    say("GMAC: billions of multiply-accumulate operations for a 256x256 frame", wrap=True)


@app.command
def demo(
    clip: Path | None = None,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")] = Path("demo-out"),
    model: Annotated[str, Parameter(alias="-m")] = DEFAULT_MODEL,
    device: Device = "auto",
    engine: EngineName = "auto",
) -> None:
    """Render a shaky clip from public-domain photographs, restore it, and measure the result.

    Args:
        clip: Video file to restore instead of the rendered clip.
        output: Folder for the results. Results of an earlier demo are overwritten.
        model: Name of a model (see `unsmear models`), or path of a .safetensors file.
        device: Where to run.
        engine: Inference engine. `auto` picks the fastest one installed that computes in float32.
    """
    from unsmear.allocator import return_freed_memory
    from unsmear.demo import check_demo, run_demo
    from unsmear.engines.base import threads_for
    from unsmear.engines.choice import open_model

    return_freed_memory()
    check_demo(output, clip)
    loaded = open_model(model, device, engine, side_by_side=True)
    with Bar(clip.name if clip else "demo clip") as bar, threads_for(loaded.engine):
        result = run_demo(output, loaded, clip, bar.progress)
    if result.psnr and result.ssim:
        (before, after), (ssim_before, ssim_after) = result.psnr, result.ssim
        say(
            f"PSNR {before:.2f} -> {after:.2f} dB ({after - before:+.2f}), "
            f"SSIM {ssim_before:.4f} -> {ssim_after:.4f}, mean of {result.frames} frames",
            wrap=True,
        )
    for label, path in (
        ("restored clip", result.restored),
        ("side by side", result.comparison),
        ("image", result.picture),
    ):
        say(f"{label:>14}: {path}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Errors that a user can fix are one line, with exit code 2."""
    # Read by OpenCV when it is imported; without a limit it allocates what a damaged header asks.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))
    if arguments is None:
        given = sys.argv[1:]
        # As Windows has it: its shells leave wildcards to the program.
        arguments = _with_matches(given) if sys.platform == "win32" else given
    with _immediate_exit_under_torchrun():
        try:
            with resilient_streams():
                code = _run(arguments)
        except OutputError as error:
            show_error(str(error))
            code = USAGE_ERROR
        if code:
            sys.exit(code)


@contextmanager
def _immediate_exit_under_torchrun() -> Iterator[None]:
    """If torchrun started several processes, exit at once when this one fails; torchrun then ends
    the others. On a normal exit NCCL would wait for the others, which wait for this process.
    """
    try:
        yield
    except BaseException as error:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            raise
        code = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _with_matches(arguments: Sequence[str]) -> list[str]:
    """Arguments with the files that match in place of each wildcard (* and ?), as a shell would
    have it; one that matches nothing stays. Brackets, which occur in names, stand for themselves.
    """
    found: list[str] = []
    for argument in arguments:
        wild = "*" in argument or "?" in argument
        matches = sorted(glob.glob(argument.replace("[", "[[]"))) if wild else []  # noqa: PTH207
        found += matches or [argument]
    return found


def _run(arguments: list[str]) -> int:
    """Run a command and return the exit code."""
    try:
        _check_arguments(arguments)
        app(
            arguments,
            exit_on_error=False,
            print_error=False,
            error_console=err,
            result_action="return_value",
        )
    except (UnsmearError, CycloptsError) as error:
        _report(error, arguments)
        return USAGE_ERROR
    except OSError as error:
        _report(as_user_error(error), arguments)
        return USAGE_ERROR
    except KeyboardInterrupt:
        err.print("unsmear: interrupted", highlight=False)
        return INTERRUPTED
    return 0


def _check_arguments(arguments: Sequence[str]) -> None:
    if "-" in arguments:
        raise ConfigError("pipes ('-') are not supported: give file names")
    if any(re.fullmatch("(-[^=]*=)?", argument) for argument in arguments):
        raise ConfigError(
            "an argument is empty (''): give a value, or set the variable that it comes from"
        )
    for argument in takewhile(lambda given: given != "--", arguments):
        if argument.startswith("-") and Path(argument).suffix and Path(argument).is_file():
            raise ConfigError(f"'{argument}' is a file, but looks like an option: begin it with ./")


def _report(error: Exception, arguments: Sequence[str]) -> None:
    """Report an error as one line on standard error, or as a JSON line on standard output with
    `--json`, for commands where that option is a flag (in others it names a file).
    """
    verb = arguments[0] if arguments and arguments[0] in app else None
    if "--json" in arguments and verb in (None, "info"):
        JsonLines(None).error(" ".join(str(error).split()))
    else:
        show_error(str(error))
