"""``vqgan figure``: what a prior makes of an image, by temperature and by how many codes it draws from."""

from pathlib import Path
from typing import Any

import torch

from vqgan.cli import training_commands
from vqgan.cli.conditions import asked_of
from vqgan.cli.flags import Size, named_values
from vqgan.cli.inputs import find_images, kept_pixels, load_synthesizer, memory_of, read_named
from vqgan.cli.outputs import check_targets, print_paths, settings_text
from vqgan.cli.processes import own, together
from vqgan.cli.progress import ProgressBar
from vqgan.evaluation.figure import figure as drawn_figure
from vqgan.images import Pixels, fit, printable, read_pixels, save_png, to_float
from vqgan.images.paths import ENDINGS
from vqgan.inpainting import inpaint
from vqgan.output_files import make_folder
from vqgan.quality.seen import pixels_of
from vqgan.types import Images, Progress


def figure(flags: training_commands.Figure) -> None:
    """Draws the figures; prints their paths."""
    found, out = find_images(flags.images), Path(flags.out)
    check_targets(
        out, [f"{name}.png" for name, _ in found], [path for _, path in found], overwrite=flags.overwrite
    )
    ways: list[dict[str, dict[str, Any]]] = [
        {f"temperature {value:g}": {"temperature": value} for value in flags.numbers("temperatures")},
        {f"top-k {value:g}": {"top_k": int(value)} for value in flags.numbers("top_ks")},
    ]
    model, header = load_synthesizer(flags)
    asked = asked_of(flags, model)
    condition, size = asked.only(), asked.size_for(model)
    mask, memory = kept_pixels(flags.keep, size), memory_of(flags, model.tokenizer)
    text = {
        **settings_text(flags, header, model),
        **asked.text,
        "keep": printable(flags.keep),
        "seed": str(flags.seed),
    }
    steering = _conditions(flags, size)
    make_folder(out)
    mine, paths = own(found), dict[str, Path]()
    with ProgressBar() as bar, torch.no_grad():
        for each in read_named(mine, size, model.tokenizer, "crop"):
            given = torch.where(mask, each.images, torch.zeros(()))
            rebuilt = model.reconstruct(each.images, memory=memory)
            shown = {"image": each.images, "reconstruction": rebuilt, "given": given}
            rows = [{**{label: pixels_of(images)[0] for label, images in shown.items()}, **steering}]

            def drawn(settings: dict[str, Any], images: Images = each.images) -> Pixels:
                more = {"seed": flags.seed, "memory": memory, "on_progress": bar, **settings}
                return pixels_of(inpaint(model, images, mask[None], condition, **more))[0]

            rows += [{label: drawn(settings) for label, settings in row.items()} for row in ways if row]
            paths[each.name] = save_png(to_float(drawn_figure(rows)), out / f"{each.name}.png", text)
            bar(Progress("figure", len(paths), len(mine)))
    print_paths(together(paths, [name for name, _ in found]).values())


def _conditions(flags: training_commands.Figure, size: Size) -> dict[str, Pixels]:
    """The conditions that are pictures, by the labels that they get."""
    given = named_values("--condition", flags.condition, is_needed=False).items()
    paths = {name: Path(value) for name, value in given if Path(value).suffix.lower() in ENDINGS}
    return {
        f"condition {name}": fit(read_pixels(path, 3), size) for name, path in paths.items() if path.is_file()
    }
