"""``vqgan extract``: conditions of photographs."""

import logging
from pathlib import Path

from vqgan.cli import commands
from vqgan.cli.inputs import find_images, readable
from vqgan.cli.outputs import check_targets, print_paths
from vqgan.cli.processes import own, rank, together
from vqgan.cli.progress import ProgressBar
from vqgan.data.poses import write_poses
from vqgan.extraction import open_extractor
from vqgan.images import Pose, printable, read_images
from vqgan.output_files import make_folder
from vqgan.types import Progress

logger = logging.getLogger(__name__)


def extract(flags: commands.Extract) -> None:
    """Extracts; prints the paths of the results."""
    found, out = find_images(flags.images), Path(flags.out)
    mine, paths, poses = own(found), dict[str, Path](), dict[str, tuple[str, Pose]]()
    targets = [f"{name}.png" for name, _ in found] + ["people.json"] * (flags.kind == "pose")
    check_targets(out, targets, [path for _, path in found], overwrite=flags.overwrite)
    extractor = open_extractor(flags.kind, flags.model, flags.labels, flags.device, flags.detector)
    make_folder(out)
    info = {"command": "extract", "model": extractor.model, "labels": flags.labels or ""}
    values = readable(
        mine, lambda path: extractor.find(read_images(path, flags.size, channels=extractor.channels))
    )
    with ProgressBar() as bar:
        for name, path, value in values:
            if isinstance(value, Pose):
                poses[name] = (name + path.suffix, value)
                if len(value.people) == 0:
                    logger.warning("no person was found in `%s`", printable(path))
            paths[name] = extractor.save(value, out / f"{name}.png", info)
            bar(Progress("extract", len(paths), len(mine)))
    names = [name for name, _ in found]
    written, poses = [*together(paths, names).values()], together(poses, names)
    if poses and rank() == 0:
        written.append(write_poses(dict(poses.values()), out / "people.json"))
    print_paths(written)
