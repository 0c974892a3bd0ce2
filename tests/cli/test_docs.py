"""The documentation does what it says: its blocks run, its links lead somewhere, what it names exists.

Blocks of a page run in order in one folder that holds `photos/`, `photo.jpg`, `mask.png`, with `labels.csv`,
`captions.csv` and `sketches/` for the photos and `sketch.png`, label maps (`maps/`, `names.txt`), networks that see labels or people
(`segformer/`, `vitpose/`, `rt-detr/`), two published checkpoints
and, unless the page makes them itself, the runs `runs/photos/{tokenizer,prior,classes}`. Presets keep their image sizes and become tiny, steps become
few; lines that do not begin with `vqgan` (make, pip) are left out.
"""

import importlib.util
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import miniatures
import networks
import vqgan
from reference import store
from vqgan.cli.main import main
from vqgan.config import merge, parse_yaml
from vqgan.presets import PRESETS, Preset
from vqgan.prior import Prior, PriorConfig
from vqgan.runs import resolve
from vqgan.tokenizer import Tokenizer
from vqgan.training.run import PriorRun, TokenizerRun

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNS = ("tokenizer", "prior", "classes")

BLOCK = re.compile(r"^```(python|sh|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WITH_BLOCKS = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def tiny(run: dict[str, Any]) -> dict[str, Any]:
    """The same run with 4x4 tokens and two steps."""
    few = {
        "steps": 2,
        "batch_size": 4,
        "save_every": 2,
        "evaluate_every": 2,
        "evaluate_images": 4,
        "pictures": 0,
    }
    changes: dict[str, object] = {"training": few, "data": {"workers": 0}}
    if run["kind"] == "tokenizer" and run["tokenizer"]["autoencoder"] is not None:
        side = min(run["data"]["image_size"])
        levels = 1 if side % 16 else 3  # of wide patches with many channels the convolutions would be huge
        changes["tokenizer"] = {
            "autoencoder": {
                "base_channels": 32,
                "channel_multipliers": [1] * levels,
                "num_residual_blocks": 1,
                "latent_channels": 32,
                "resolution": side,
                "attention_resolutions": [],
                "patch_size": side // 2 ** (levels + 1),
            }
        }
        changes["task"] = {"discriminator": None, "perceptual": None}
    elif run["kind"] in ("classifier", "denoiser"):
        changes["encoder"] = {"channel_multipliers": [1], "patch_size": min(run["data"]["image_size"]) // 4}
    elif run["kind"] == "prior":
        changes["prior"] = {"depth": 1, "width": 16, "num_heads": 2}
    return merge(run, changes)


def shrink_presets(patch: pytest.MonkeyPatch) -> None:
    whole = Preset.mapping
    patch.setattr(Preset, "mapping", lambda preset: tiny(whole(preset)))


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, write_images) -> Path:
    """The folder that the pages speak of, with its runs."""
    root = tmp_path_factory.mktemp("workplace")
    for number, place in enumerate(("cats", "dogs")):
        write_images(root / "photos" / place, count=4, size=(140, 150), low=60 * number)
    Image.open(root / "photos" / "cats" / "0.png").save(root / "photo.jpg")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    mask.save(root / "mask.png")
    rows = [
        f"{place}/{number}.png,{'night' if number % 2 else 'day'}"
        for place in ("cats", "dogs")
        for number in range(4)
    ]
    (root / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    (root / "captions.csv").write_text("\n".join(rows).replace(",", ",one animal at "), encoding="utf-8")
    shutil.copytree(root / "photos", root / "sketches")
    Image.open(root / "photo.jpg").crop((0, 0, 128, 128)).save(root / "sketch.png")
    (root / "maps").mkdir()
    for number in range(4):
        Image.fromarray(np.tile(np.arange(128, dtype=np.uint8) // 32, (128, 1))).save(
            root / f"maps/{number}.png"
        )
    (root / "names.txt").write_text("sky\ntree\nsea\nland\n", encoding="utf-8")
    miniatures.grand_challenge(root / "agc", games={"pinball": [41, 41], "qbert": [41]})
    if importlib.util.find_spec("transformers"):
        for network in ("segformer", "vitpose", "rt_detr"):
            networks.save(network, root / network.replace("_", "-"))
        networks.save_judge("CLIPModel", root / "clip")
    for case, folder in (("vqmodel_tiny", "vqgan_imagenet_f16_1024"), ("net2net_class", "cin_transformer")):
        for part in ("checkpoints", "configs"):
            (root / folder / part).mkdir(parents=True)
        store.write_checkpoint(case, root / folder / "checkpoints" / "last.ckpt")
        shutil.copy(store.ROOT / case / "model.yaml", root / folder / "configs" / "project.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        shrink_presets(patch)
        for run in RUNS:
            vqgan.train(
                "small-tokenizer" if run == "tokenizer" else "small-prior",
                data="photos/",
                out=f"runs/photos/{run}",
                tokenizer=None if run == "tokenizer" else "runs/photos/tokenizer",
                overrides=["conditioner.kind=class_label"] if run == "classes" else (),
                device="cpu",
            )
    return root


def commands(block: str) -> list[list[str]]:
    lines = [line for line in block.replace("\\\n", " ").splitlines() if line.startswith("vqgan ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name)
def test_the_blocks_of_a_page_run(page, workplace, tmp_path, monkeypatch, capsys):
    text = re.sub(r"(steps(?:-each)?[ =])\d{2,}", r"\g<1>3", page.read_text(encoding="utf-8"))
    if "segformer/" in text or "clip/" in text:
        pytest.importorskip(
            "transformers", reason="transformers is not installed: pip install vqgan[extract]"
        )
    monkeypatch.chdir(tmp_path)
    shrink_presets(monkeypatch)
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    for run in RUNS:
        if re.search(rf"(--out |out=\")runs/photos/{run}\b", text):
            shutil.rmtree(tmp_path / "runs" / "photos" / run)
    space: dict[str, object] = {"__name__": "page"}
    for kind, block in BLOCK.findall(text):
        if kind == "yaml":
            parse_yaml(block)
            Path("mine.yaml").write_text(block, encoding="utf-8")
        elif kind == "python":
            exec(compile(block, name(page), "exec"), space)
        else:
            for words in commands(block):
                assert main(words) == 0, f"vqgan {shlex.join(words)}\n{capsys.readouterr().err}"


def test_the_pages_with_blocks_are_seen():
    assert {"README.md", "docs/guides/use-from-python.md", "docs/guides/sample-and-complete.md"} <= {
        name(page) for page in WITH_BLOCKS
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_of_the_source_that_is_named_exists(page):
    named = re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8"))
    places = (ROOT, ROOT / "src", ROOT / "src" / "vqgan", ROOT / "benchmarks")
    assert [file for file in named if not any((place / file).exists() for place in places)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_and_preset_that_is_named_exists(page, capsys):
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"`vqgan ([a-z]+)", text):
        words = ["train", "tokenizer"] if command == "train" else [command]
        assert main([*words, "--help"]) == 0
    assert set(
        re.findall(
            r"\b(?:demo|games|digits|mnist|laptop|deepfield|small|half|f16|pixels)-(?:tokenizer|prior|classifier|denoiser)\b",
            text,
        )
    ) <= set(PRESETS)


def test_the_parameters_in_the_table_of_presets_are_right():
    text = (ROOT / "docs" / "guides" / "which-preset.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)-(tokenizer|prior)` \| ([\d.]+) M \| (\d+)×(\d+) \| ([\d,]+) × (\d+) ", text, re.MULTILINE
    )
    assert len(rows) == 22
    for family, stage, millions, height, width, steps, batch in rows:
        first, second = (resolve(f"{family}-{each}") for each in ("tokenizer", "prior"))
        assert isinstance(first, TokenizerRun)
        assert isinstance(second, PriorRun)
        run = first if stage == "tokenizer" else second
        assert (run.training.steps, run.training.batch_size) == (int(steps.replace(",", "")), int(batch))
        with torch.device("meta"):
            tokenizer = Tokenizer(first.tokenizer)
            model = tokenizer if stage == "tokenizer" else build_prior(second, tokenizer)
        assert tokenizer.grid_size(run.data.image_size) == (int(height), int(width))
        count = sum(parameter.numel() for parameter in model.parameters())
        assert float(f"{count / 1e6:.3g}") == pytest.approx(float(millions), rel=0.01)


def build_prior(run: PriorRun, tokenizer: Tokenizer) -> Prior:
    rows, columns = tokenizer.grid_size(run.data.image_size)
    classes = 10 if run.conditioner.vocabulary_size != 1 else 1
    config = PriorConfig(
        codebook_size=tokenizer.codebook_size,
        condition_size=classes,
        context_length=rows * columns,
        **msgspec.structs.asdict(run.prior),
    )
    return Prior(config)


def test_every_dependency_has_its_decision():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["demo"], *extras["extract"]]
    decisions = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "decisions").glob("*.md")
    )
    missing = [need for need in wanted if f"`{re.split('[><=]', need)[0]} >=" not in decisions]
    assert missing == []


def test_decisions_are_numbered_without_gaps():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    for number, page in enumerate(pages, start=1):
        assert page.name.startswith(f"{number:04d}-")
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. ")
        assert "**What it costs.**" in text
