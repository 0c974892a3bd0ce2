"""Checkpoints as people find them, each through `load`, `info`, `reconstruct` and `convert`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import vqgan
from reference import store
from vqgan.config import dump_yaml
from vqgan.synthesizer import Synthesizer

State = dict[str, Tensor]
BUFFERS = {"betas": torch.zeros(3), "model.diffusion_model.out.weight": torch.zeros(2)}
"""What stands beside the first stage of a latent-diffusion model."""


@dataclass
class Case:
    """A checkpoint that is not as the original wrote it.

    Attributes:
        of: The recorded checkpoint.
        change: From its tensors to those of the file.
        yaml: From its configuration to the one beside the file; None means that there is none.
        ending: Of the file.
        set: What is said by ``--set``.
        said: What the log says.
        weights: What the averaged weights are called, if they are.
    """

    of: str
    change: Callable[[State], State] = lambda state: state
    yaml: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    ending: str = ".ckpt"
    set: list[str] = field(default_factory=list)
    said: str = ""
    weights: str = "raw"


def below(prefix: str, **others: Tensor) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{key}": tensor for key, tensor in state.items()} | others


def own(state: State) -> State:
    return state


def as_it_is(config: dict[str, Any]) -> dict[str, Any]:
    return config


def inside(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a latent-diffusion model around a first stage."""
    first = {"target": "ldm.models.autoencoder.VQModelInterface", "params": config["model"]["params"]}
    return {
        "model": {
            "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {"first_stage_config": first},
        }
    }


def referring(config: dict[str, Any]) -> dict[str, Any]:
    sizes = config["model"]["params"]["ddconfig"]
    params = {**config["model"]["params"], "embed_dim": "${width}", "n_embed": "${model.codes}"}
    params["ddconfig"] = {**sizes, "out_ch": "${.in_channels}", "z_channels": "${sizes.z}"}
    model = {**config["model"], "codes": 64, "params": params, "where": "${oc.env:HOME}/x"}
    return {"model": model, "sizes": {"z": sizes["z_channels"]}, "width": 24}


def averaged(state: State) -> State:
    """The right weights as the running averages of other ones."""
    averages = {f"model_ema.{key.replace('.', '')}": tensor for key, tensor in state.items()}
    return (
        {key: tensor + 1 for key, tensor in state.items()} | averages | {"model_ema.decay": torch.zeros(())}
    )


def with_running(state: State) -> State:
    codes = state["quantize.embedding.weight"]
    running = {"cluster_size": codes[:, 0], "embed_avg": codes}
    return state | {f"quantize.embedding.{name}": tensor for name, tensor in running.items()}


HEADS = "prior.num_heads=4"
CASES = {
    "parallel": Case("train3", below("module."), as_it_is, said="for training: discriminator"),
    "prefix": Case("vqmodel_tiny", below("model."), as_it_is),
    "first stage alone": Case("vqmodel_tiny", below("first_stage_model."), as_it_is),
    "prefix beside others": Case(
        "vqmodel_tiny",
        below("vqgan.", **{"judge.weight": torch.zeros(1)}),
        as_it_is,
        said="`vqgan.*`; omitted: `judge`",
    ),
    "latent diffusion": Case(
        "vqmodel_tiny", below("first_stage_model.", **BUFFERS), inside, said="omitted: `betas`, `model`"
    ),
    "latent diffusion without configuration": Case("vqmodel_tiny", below("first_stage_model.", **BUFFERS)),
    "safetensors": Case("gumbelvq_tiny", yaml=as_it_is, ending=".safetensors"),
    "safetensors without configuration": Case("vqmodel_tiny", below("model."), ending=".safetensors"),
    "inferred": Case("vqmodel_tiny", said="inferred from the tensors"),
    "inferred Gumbel": Case("gumbelvq_tiny"),
    "inferred with a discriminator": Case("train3"),
    "inferred second stage": Case(
        "net2net_uncond", below("module."), set=[HEADS, "conditioner={kind: unconditional, start_token: 5}"]
    ),
    "running codes": Case(
        "vqmodel_tiny",
        with_running,
        as_it_is,
        said="averages of its codes, `cluster_size`, `embed_avg`; in further training, gradients change codes",
    ),
    "averages": Case(
        "vqmodel_tiny", averaged, as_it_is, said="are the averaged ones, `model_ema.*`", weights="ema"
    ),
    "averages of others": Case(
        "vqmodel_tiny",
        lambda state: state | {"model_ema.diffusion": torch.zeros(1)},
        as_it_is,
        said="are the last ones; `model_ema.*` does not average them all",
    ),
    "references": Case("vqmodel_tiny", own, referring),
}


@pytest.mark.parametrize("name", CASES)
def test_any_checkpoint_opens_with_every_command(name, run, tmp_path, trained):
    case, folder = CASES[name], tmp_path / "found"
    recorded = store.case(case.of)
    folder.mkdir()
    path = folder / f"last{case.ending}"
    state = {key: tensor.clone() for key, tensor in case.change(recorded.state).items()}
    if case.ending == ".ckpt":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    if case.yaml is not None:
        (folder / "model.yaml").write_text(dump_yaml(case.yaml(recorded.config)))
    whole = tmp_path / "whole"
    whole.mkdir()
    store.write_checkpoint(case.of, whole / "last.ckpt")
    (whole / "model.yaml").write_text(dump_yaml(recorded.config))
    wanted = vqgan.load(whole, device="cpu").state_dict()

    model = vqgan.load(folder, overrides=case.set, device="cpu")
    assert model.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in model.state_dict().items())
    flags = [word for item in case.set for word in ("--set", item)]
    info = run("info", path, *flags)
    assert (info.code, case.said in info.err or case.said in info.out) == (0, True), info
    assert ("inferred from the tensors" in info.out) == (case.yaml is None)
    assert f"weights     {case.weights}" in info.out
    images = trained.images / "dark" / "0.png"
    result = run("reconstruct", path, images, *flags, "--out", tmp_path / "images")
    assert result.code == 0, result.err
    out = tmp_path / "out.safetensors"
    assert run("convert", path, *flags, "--out", out).code == 0
    converted = vqgan.load(out, device="cpu")
    assert converted.config == model.config
    tokenizer = converted.tokenizer if isinstance(converted, Synthesizer) else converted
    assert tokenizer.encode(vqgan.read_images(images)).shape[0] == 1
    assert f"weights     {case.weights}" in run("info", out).out
