"""What does a fusion take from its window, and what limits it?

Examines networks saved by `benchmarks/fusion.py --keep KEPT`, before and after training, and
released networks, on synthetic clips that the former were not trained on.

    python benchmarks/attention_use.py KEPT --data PHOTOS --shake LOG --released core
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from unsmear.arguments import weights_named
from unsmear.data.sources import find_training_files
from unsmear.device import use_threads
from unsmear.errors import ModelError
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import (
    at_least,
    files_in,
    parser_for,
    refuse_repeated,
    run_program,
)
from unsmear.evaluate.records import record_as_json
from unsmear.evaluate.report import markdown_table
from unsmear.models.attention import FactorizedAttention, pixelwise_weights, spatial_weights
from unsmear.models.config import NetworkConfig
from unsmear.models.fusion import FusionConfig, FusionNetwork
from unsmear.models.fusion.attentive import FactorizedFusion
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import LoadedModel, load_model
from unsmear.outputs import check_file, write_text
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, preset
from unsmear.train.losses import LOSSES

CPU = torch.device("cpu")
LOSS = LOSSES["charbonnier_mse"]  # minimised by benchmarks/fusion.py
STEP = 0.1  # relative to the norm of the weights
FRAMES = 5  # of a clip, or as many as the widest window of a released network
COLUMNS = (
    "context", "neighbours", "weights f_s", "logits f_s", "flat A_s", "flat A_p",
    "elements", "frames", "pixels", "pull f_s", "pull f_t", "pull f_p", "pull merge",
)  # fmt: skip
LEGEND = (
    "In percent, except for the two columns of f_s. Medians over frames, means over seeds.",
    "",
    "- context: size of what the fusion adds, relative to the current features.",
    "- neighbours: change of the fused features when the current frame takes the place of all "
    "others, relative to their size.",
    "- weights f_s: root mean square of its weights. logits f_s: standard deviation of its output "
    "over the pixels of a frame. Below 1 a softmax hardly distinguishes pixels.",
    "- flat A_s: effective number of pixels that a spatial map attends to, exp(entropy), relative "
    "to all; 100 is a plain mean of the frame. flat A_p: the same for the M * N elements that a "
    "pixel takes.",
    "- elements: distance of the M * N elements of the context from their mean, relative to their "
    "size.",
    "- frames: distance of a neighbour's descriptors from those of the current frame, relative to "
    "their size.",
    "- pixels: distance of what the pixels take from its mean over the frame, relative to its "
    "size; at 0 all pixels take the same.",
    "- pull: first-order change of the loss if these weights moved along its gradient by a tenth "
    "of their norm. Near 0 there is nothing to learn from, whatever the optimiser.",
)
Pairs = Sequence[tuple[Tensor, Tensor]]  # blurry and sharp clips


@dataclass(frozen=True)
class Kept:
    """A network saved by `benchmarks/fusion.py`."""

    label: str
    seed: int
    when: str
    step: int
    network: FusionNetwork


def load(path: Path) -> Kept:
    """Load a file of `benchmarks/fusion.py --keep`.

    Raises:
        ModelError: it is another kind of file.
    """
    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})["fusion"])
    except (KeyError, ValueError, SafetensorError):
        raise ModelError(f"'{path}' is not what benchmarks/fusion.py --keep writes") from None
    config = told.pop("config")
    backbone = NetworkConfig(**config.pop("backbone"))
    network = FusionNetwork(FusionConfig(**config, backbone=backbone))
    network.load_state_dict(load_file(path))
    return Kept(**told, network=network)


def share(part: Tensor, whole: Tensor) -> float:
    """Norm of one tensor relative to that of another, percent."""
    return 100 * float(part.norm() / whole.norm().clamp_min(1e-12))


def flatness(weights: Tensor) -> float:
    """Effective number of elements of a softmax over the last dimension, percent of all."""
    entropy = -(weights * weights.clamp_min(1e-30).log()).sum(dim=-1)
    return 100 * float((entropy.exp() / weights.shape[-1]).mean())


@torch.no_grad()
def uses(network: FusionNetwork, clip: Tensor) -> Iterator[dict[str, float]]:
    """What each frame of a clip (1, L, 3, H, W) takes from its window."""
    place, fusion = network.config.place, network.fusion
    features = network.encode(clip)
    for frame in range(clip.shape[1]):
        window = network.window(features, frame)  # (1, T, C, h, w)
        found = taken(lambda window: fusion.fuse(window, place), window, place)
        if isinstance(fusion, FactorizedFusion):
            found |= attention_uses(fusion.attention, window, place)
        yield found


@torch.no_grad()
def released_uses(
    network: DeblurNetwork, level: int, clip: Tensor, frames: int
) -> Iterator[dict[str, float]]:
    """The same for one attention level of a released network, with a window of `frames` that ends
    where the clip does. Its local path is left out.
    """
    attention, merge = network.attention(level), network.merges[str(level)]
    features = network.encode(clip[0]).features[level].unsqueeze(0)  # (1, L, C, h, w)

    def fuse(window: Tensor, place: int) -> Tensor:
        here = window[:, place]
        added: Tensor = merge(attention.fuse(here, attention.describe(window)))
        return here + added

    for frame in range(clip.shape[1]):
        start = max(frame - frames // 2, 0)
        window, place = features[:, start : frame + frames // 2 + 1], frame - start
        found = taken(partial(fuse, place=place), window, place)
        yield found | attention_uses(attention, window, place)


def taken(fuse: Callable[[Tensor], Tensor], window: Tensor, place: int) -> dict[str, float]:
    """How much a fusion adds to the current features of a window (1, T, C, H, W), and how much of
    that comes from the neighbours.
    """
    here = window[:, place]
    fused, alone = fuse(window), fuse(here.unsqueeze(1).expand_as(window))
    return {"context": share(fused - here, here), "neighbours": share(fused - alone, fused)}


def attention_uses(attention: FactorizedAttention, window: Tensor, place: int) -> dict[str, float]:
    """For the paper's attention: how flat its maps are, and how similar what it mixes."""
    here, described = window[:, place], attention.describe(window)
    context = attention.mix(described)  # (1, K, C)
    each = attention.distribute(here, context)  # (1, C, h, w)
    own = described.squeezed[:, place]  # (1, M, C)
    others = [t for t in range(window.shape[1]) if t != place]
    logits = attention.spatial_logits(window)  # (1, T, M, h, w)
    return {
        "weights f_s": float(attention.f_s.weight.square().mean().sqrt()),
        "logits f_s": float(logits.flatten(-2).std(dim=-1).mean()),
        "flat A_s": flatness(spatial_weights(logits).flatten(-2)),
        "flat A_p": flatness(pixelwise_weights(attention.pixelwise_logits(here)).movedim(1, -1)),
        "elements": share(context - context.mean(dim=1, keepdim=True), context),
        "frames": fmean(share(described.squeezed[:, t] - own, own) for t in others),
        "pixels": share(each - each.mean(dim=(-2, -1), keepdim=True), each),
    }


def pulls(
    network: nn.Module, attention: FactorizedAttention, merge: nn.Module, clips: Pairs
) -> dict[str, float]:
    """First-order change of the loss if a weight moves by a tenth of its norm, percent."""
    parts = {"f_s": attention.f_s, "f_t": attention.f_t, "f_p": attention.f_p, "merge": merge}
    weights = [part.get_parameter("weight") for part in parts.values()]
    loss = torch.stack([LOSS(network(blurry), sharp) for blurry, sharp in clips]).mean()
    gradients = torch.autograd.grad(loss, weights)
    return {
        f"pull {name}": 100 * STEP * float((gradient.norm() * weight.norm() / loss).detach())
        for name, weight, gradient in zip(parts, weights, gradients, strict=True)
    }


def medians(found: Iterable[dict[str, float]]) -> dict[str, float]:
    """Median of each column."""
    rows = list(found)
    return {name: median(row[name] for row in rows) for name in rows[0]}


def row_of(network: FusionNetwork, clips: Pairs) -> dict[str, float]:
    """All available columns for a network of the comparison."""
    row = medians(
        use for blurry, _ in clips for one in blurry.split(1) for use in uses(network, one)
    )
    fusion = network.fusion
    if isinstance(fusion, FactorizedFusion):
        row |= pulls(network, fusion.attention, fusion.merge, clips)
    return row


def released_rows(model: LoadedModel, clips: Pairs) -> Iterator[tuple[str, dict[str, float]]]:
    """All columns for each attention of a released network."""
    network = model.network.requires_grad_(True)
    for level in network.config.attention_levels:
        row = medians(
            use
            for blurry, _ in clips
            for one in blurry.split(1)
            for use in released_uses(network, level, one, model.window)
        )
        attention, merge = network.attention(level), network.merges[str(level)]
        label = f"{model.name}, level {level}, window {model.window}"
        yield label, row | pulls(network, attention, merge, clips)


def rows_by_seed(
    paths: Iterable[Path], released: Iterable[LoadedModel], clips: Pairs
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """The columns of each network, a row for each seed, by its label and the state of its weights.

    Args:
        paths: files of `benchmarks/fusion.py --keep`.
        released: released networks.
        clips: to measure on.
    """
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for path in paths:
        kept = load(path)
        if kept.network.config.fusion != "none":
            when = f"after {kept.step} steps" if kept.when == "learned" else "fresh"
            found.setdefault((kept.label, when), []).append(row_of(kept.network, clips))
    for model in released:
        for label, row in released_rows(model, clips):
            found.setdefault((label, "released"), []).append(row)
    return found


def table(rows: Sequence[tuple[str, str, dict[str, float]]]) -> list[str]:
    """Markdown table."""
    body = [
        [label, when, *(f"{row[name]:.3g}" if name in row else "-" for name in COLUMNS)]
        for label, when, row in rows
    ]
    return markdown_table(["fusion", "weights", *COLUMNS], body)


def main() -> None:
    """Measure, print the table, write the record."""
    parser = parser_for(__doc__)
    parser.add_argument("kept", type=Path, help="folder that benchmarks/fusion.py --keep wrote")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="photographs, clips")
    parser.add_argument("--shake", type=Path, nargs="*", default=[], help="orientation logs")
    parser.add_argument("--released", nargs="*", default=[], help="models to look into as well")
    parser.add_argument("--batches", type=int, default=12, help="of two clips")
    parser.add_argument("--crop", type=int, default=80, help="pixels")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="file for the record")
    arguments = parser.parse_args()
    at_least(1, batches=arguments.batches)
    use_threads(arguments.threads)
    if arguments.json:
        read = (*arguments.data, *arguments.shake, *map(weights_named, arguments.released))
        check_file(arguments.json, inputs=(arguments.kept, *read))
    paths = files_in(arguments.kept, "*.safetensors")
    released = [load_model(name) for name in arguments.released]
    refuse_repeated("model", (one.name for one in released), "give each file a name of its own")
    frames = max([FRAMES, *(model.window for model in released)])
    stage = Stage(steps=10**9, clips=2, frames=frames, crop=arguments.crop)
    plan = dataclasses.replace(preset("plain"), stages=(stage,), shards=1, seed=10**6)
    drawn = Batches(plan, find_training_files(arguments.data), arguments.shake, CPU, 1)
    clips = [drawn.draw(step).pair for step in range(arguments.batches)]
    found = rows_by_seed(paths, released, clips)
    rows = [
        (label, when, {name: fmean(row[name] for row in seeds) for name in seeds[0]})
        for (label, when), seeds in found.items()
    ]
    print("\n".join([*table(rows), "", *LEGEND]))
    if arguments.json is not None:
        record = {
            "title": "What the fusions take from their window, "
            f"crops of {arguments.crop}x{arguments.crop}, clips of {frames} frames",
            "settings": {"frames": frames, "windows": {one.name: one.window for one in released}},
            "legend": LEGEND,
            "origin": dataclasses.asdict(origin_of(CPU)),
            "table": table(rows),
            "rows": [
                {"label": label, "weights": when, "seeds": len(found[label, when])} | row
                for label, when, row in rows
            ],
        }
        write_text(arguments.json, record_as_json(record, indent=1))


if __name__ == "__main__":
    sys.exit(run_program(main))
