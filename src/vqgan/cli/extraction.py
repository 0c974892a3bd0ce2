"""``vqgan extract``: conditions of photographs."""

from pathlib import Path

from vqgan.cli import commands
from vqgan.cli.inputs import find_images, readable
from vqgan.cli.outputs import check_targets, print_paths
from vqgan.cli.progress import ProgressBar
from vqgan.extraction import open_extractor
from vqgan.images import read_images
from vqgan.output_files import make_folder
from vqgan.types import Progress


def extract(flags: commands.Extract) -> None:
    """Extracts; prints the paths of the results."""
    found, out, paths = find_images(flags.images), Path(flags.out), []
    targets = [f"{name}.png" for name, _ in found]
    check_targets(out, targets, [path for _, path in found], overwrite=flags.overwrite)
    extractor = open_extractor(flags.kind, flags.model, flags.labels, flags.device)
    make_folder(out)
    info = {"command": "extract", "model": extractor.model, "labels": flags.labels or ""}
    values = readable(
        found, lambda path: extractor(read_images(path, flags.size, channels=extractor.channels))
    )
    with ProgressBar() as bar:
        for name, _, value in values:
            paths.append(extractor.save(value, out / f"{name}.png", info))
            bar(Progress("extract", len(paths), len(found)))
    print_paths(paths)
