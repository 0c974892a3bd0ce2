"""Converting a large checkpoint takes little memory: the weights stay in the file until they are written."""

import json
import subprocess
import sys

import pytest
import torch
import yaml

from vqgan.checkpoints.key_maps import PRIOR, TOKENIZER
from vqgan.checkpoints.original_config import translated
from vqgan.synthesizer import Synthesizer

MODEL = {
    "target": "taming.models.cond_transformer.Net2NetTransformer",
    "params": {
        "cond_stage_config": "__is_unconditional__",
        "first_stage_config": {
            "target": "taming.models.vqgan.VQModel",
            "params": {
                "embed_dim": 32,
                "n_embed": 1024,
                "ddconfig": {
                    "double_z": False,
                    "z_channels": 32,
                    "resolution": 64,
                    "in_channels": 3,
                    "out_ch": 3,
                    "ch": 32,
                    "ch_mult": [1, 1, 2],
                    "num_res_blocks": 1,
                    "attn_resolutions": [16],
                },
            },
        },
        "transformer_config": {
            "target": "taming.modules.transformer.mingpt.GPT",
            "params": {"vocab_size": 1024, "block_size": 256, "n_layer": 20, "n_head": 16, "n_embd": 1024},
        },
    },
}

MEASURED = """
import json, sys, threading, time
from pathlib import Path
import torch
from vqgan.checkpoints.published import convert

def anonymous():
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("RssAnon"))

before, most, done = anonymous(), [0], threading.Event()

def watch():
    while not done.wait(0.002):
        most[0] = max(most[0], anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
convert(Path(sys.argv[1]), Path(sys.argv[2]))
done.set()
watcher.join()
print(json.dumps(most[0] - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_converting_a_gigabyte_holds_less_than_1_3_times_what_is_kept(tmp_path):
    model = Synthesizer(translated(MODEL, {}, where="the test"))
    state = {}
    for part, prefix, keys in (
        ("tokenizer", "first_stage_model", TOKENIZER),
        ("prior", "transformer", PRIOR),
    ):
        ours = getattr(model, part).state_dict()
        state |= {f"{prefix}.{key}": ours[name] for name, key in keys.published(ours).items()}
    moments = {"state": {0: {"exp_avg": torch.zeros(20_000_000)}}}
    torch.save({"state_dict": state, "optimizer_states": [moments]}, tmp_path / "last.ckpt")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": MODEL}))
    out = tmp_path / "out.safetensors"
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "last.ckpt"), str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    kept = out.stat().st_size
    assert kept > 1e9
    assert json.loads(run.stdout) <= 1.3 * kept
