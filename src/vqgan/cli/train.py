"""``vqgan train`` of each stage, and ``vqgan demo``, which trains the first two."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vqgan import runs
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli import training_commands
from vqgan.cli.flags import named_values
from vqgan.cli.outputs import print_paths
from vqgan.cli.progress import ProgressBar
from vqgan.errors import require


def train(flags: training_commands.TrainTokenizer) -> None:
    """Trains, with a progress bar, and prints the run's folder."""
    short = {
        "training.steps": flags.steps,
        "training.batch_size": flags.batch_size,
        "data.image_size": list(flags.image_size) if flags.image_size else None,
        "data.workers": flags.workers,
    }
    try:
        with ProgressBar() as bar:
            folder = runs.train(
                flags.preset,
                data=flags.data,
                eval_data=flags.eval_data,
                out=flags.out,
                **_of_stage(flags),
                start_from=flags.from_,
                resume=flags.resume,
                overrides=[
                    *flags.set,
                    *(f"{key}={value}" for key, value in short.items() if value is not None),
                ],
                device=flags.device,
                precision=flags.precision,
                seed=flags.seed,
                on_progress=bar,
                stage=flags.stage,
                log=flags.log,
            )
    except KeyboardInterrupt:  # the second Ctrl-C, which stops before anything is said
        place = RunFolder(Path(flags.resume or flags.out or ""))
        hint = f"\nhint: continue with `vqgan train {flags.stage} --resume {place.path}`"
        raise KeyboardInterrupt("interrupted" + hint * bool(place.numbers())) from None
    print_paths([folder])


def _of_stage(flags: training_commands.TrainTokenizer) -> dict[str, Any]:
    """What only some stages take."""
    if isinstance(flags, training_commands.TrainClassifier):
        return {"conditions": named_values("--condition", flags.condition)}
    if not isinstance(flags, training_commands.TrainPrior):
        return {}
    return {
        "tokenizer": flags.tokenizer,
        "conditions": named_values("--condition", flags.condition, is_needed=False),
        "condition_tokenizers": named_values("--condition-tokenizer", flags.condition_tokenizer),
    }


def demo(flags: training_commands.Demo) -> None:
    """Runs a demo; prints its main numbers and the path of the report."""
    from vqgan.demo import Demo, run_conditions_demo, run_demo, run_large_demo, run_words_demo

    given = [name for name in ("screen", "large", "conditions", "words") if getattr(flags, name)]
    what = "there are " + " and ".join(f"`--{name}`" for name in given)
    require(len(given) < 2, what, hint="they are two demos or more: keep one")
    demos: dict[str, Callable[[Demo], dict[str, Any]]] = {
        "demo": run_demo,
        "screen": partial(run_demo, screen=True),
        "large": run_large_demo,
        "conditions": run_conditions_demo,
        "words": run_words_demo,
    }
    run = demos[(name := (given or ["demo"])[0])]
    name = "deepfield" if name == "large" else name
    folder = Path(flags.out or f"runs/{name}{'-quick' * flags.quick}")
    with ProgressBar() as bar:
        asked = Demo(folder, quick=flags.quick, seed=flags.seed, device=flags.device, on_progress=bar)
        numbers = run(asked)
    if flags.conditions:
        found = {name: values["sample"][0] for name, values in numbers["agreement"].items()}
        print(f"asked game recognised {found['class']:.0%}, edges F1 {found['edges']:.2f}", end=", ")
        print(f"small copy {found['low_resolution']:.1f} dB, boxes found {found['layout']:.0%}")
    elif flags.words:
        shown = {name: f"{values['all'][0]:.0%}" for name, values in numbers["agreement"].items()}
        print(f"guided by words {shown['guided']}, by words and prior {shown['guided_prior']}", end=", ")
        print(f"drawn from captions {shown['text_0']}; without words {shown['free']}")
    elif flags.large:
        drawn, real = (numbers["textures"][which]["frechet"] for which in ("drawn", "real"))
        print(f"{numbers['tokens']} tokens in {numbers['seconds']['drawing']:.0f} s", end="; ")
        print(f"distance to held-out squares {drawn:.3g}, of the real picture {real:.3g}")
    else:
        ours, nearest = numbers["reconstruction_psnr"], numbers["nearest_frame_psnr"]
        print(f"reconstruction {ours:.1f} dB, nearest training frame {nearest:.1f} dB")
    print(folder / "report.html")
