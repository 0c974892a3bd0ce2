"""Tiny random networks of transformers, saved as their publishers save them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vqgan.checkpoints.inception import published_names
from vqgan.nn.inception import Inception

LABELS = ("wall", "building", "sky", "floor")
NAMES = ("segformer", "beit", "upernet", "maskformer")
"""Networks that see labels."""
PARTS = ("Eye", "Ear", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
POINTS = (*(f"{side}_{part}" for part in PARTS for side in "RL"), "Nose")
"""What the network of key points calls them, not in COCO's order."""
THINGS = ("car", "person", "dog")
"""What the detectors find."""


def save(name: str, folder: Path) -> Path:
    """A network with its processor."""
    networks = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install vqgan[extract]"
    )
    torch.manual_seed(0)
    labels = named(LABELS)
    size, prefix = {"height": 32, "width": 48}, ""
    convnext = networks.ConvNextConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    vit = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    if name == "segformer":
        config = networks.SegformerConfig(
            num_encoder_blocks=2,
            depths=[1, 1],
            hidden_sizes=[8, 16],
            sr_ratios=[2, 1],
            patch_sizes=[7, 3],
            strides=[4, 2],
            num_attention_heads=[1, 2],
            mlp_ratios=[2, 2],
            decoder_hidden_size=8,
            **labels,
        )
        kind, prefix = networks.SegformerForSemanticSegmentation, "Segformer"
    elif name == "beit":
        size = {"height": 32, "width": 32}
        config = networks.BeitConfig(
            **vit, image_size=32, patch_size=8, out_indices=[0, 1, 2, 3], use_auxiliary_head=False, **labels
        )
        kind, prefix = networks.BeitForSemanticSegmentation, "Beit"
    elif name == "upernet":
        config = networks.UperNetConfig(
            backbone_config=convnext, hidden_size=8, use_auxiliary_head=False, pool_scales=[1, 2], **labels
        )
        kind, prefix = networks.UperNetForSemanticSegmentation, "Segformer"
    elif name == "maskformer":
        swin = networks.SwinConfig(
            embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, image_size=32
        )
        swin.out_features = ["stage1", "stage2", "stage3", "stage4"]
        decoder = networks.DetrConfig(
            d_model=8,
            decoder_layers=1,
            encoder_layers=1,
            num_queries=3,
            decoder_ffn_dim=8,
            decoder_attention_heads=2,
        )
        config = networks.MaskFormerConfig(
            backbone_config=swin, decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, **labels
        )
        kind, prefix, size = (
            networks.MaskFormerForInstanceSegmentation,
            "MaskFormer",
            {"height": 32, "width": 64},
        )
    elif name in ("dpt", "depth_anything"):
        size = {"height": 32, "width": 32}
        neck = {"neck_hidden_sizes": [4, 4, 8, 8], "fusion_hidden_size": 8}
        if name == "dpt":
            config = networks.DPTConfig(
                **vit,
                **neck,
                image_size=32,
                patch_size=16,
                backbone_out_indices=[0, 1, 2, 3],
                is_hybrid=False,
            )
            kind = networks.DPTForDepthEstimation
        else:
            dino = networks.Dinov2Config(
                hidden_size=16,
                num_hidden_layers=4,
                num_attention_heads=2,
                image_size=32,
                patch_size=8,
                out_indices=[1, 2, 3, 4],
                reshape_hidden_states=False,
                apply_layernorm=True,
            )
            config = networks.DepthAnythingConfig(
                **neck, backbone_config=dino, patch_size=8, reassemble_hidden_size=16, head_hidden_size=8
            )
            kind = networks.DepthAnythingForDepthEstimation
        prefix = "DPT"
    elif name in ("vitpose", "vitpose_plus"):
        size, labels = {"height": 32, "width": 24}, named(POINTS)
        backbone = networks.VitPoseBackboneConfig(
            image_size=[32, 24],
            patch_size=[8, 8],
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            out_indices=[2],
            **({"num_experts": 2, "part_features": 4} if name == "vitpose_plus" else {}),
        )
        config = networks.VitPoseConfig(backbone_config=backbone, **labels)
        kind, prefix = networks.VitPoseForPoseEstimation, "VitPose"
    elif name == "rt_detr":
        resnet = networks.RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8] * 4,
            depths=[1] * 4,
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )
        config = networks.RTDetrConfig(
            backbone_config=resnet,
            encoder_hidden_dim=16,
            encoder_in_channels=[8] * 3,
            encoder_ffn_dim=16,
            encoder_attention_heads=2,
            d_model=16,
            decoder_in_channels=[16] * 3,
            decoder_ffn_dim=16,
            decoder_attention_heads=2,
            decoder_layers=1,
            num_queries=4,
            **named(THINGS),
        )
        kind, prefix, size = networks.RTDetrForObjectDetection, "RTDetr", {"height": 32, "width": 64}
    elif name == "yolos":
        config = networks.YolosConfig(
            **vit, image_size=[32, 48], patch_size=8, num_detection_tokens=6, **named(THINGS)
        )
        kind, prefix = networks.YolosForObjectDetection, "Yolos"
    else:
        size = {"height": 32, "width": 64}
        config = networks.GLPNConfig(
            depths=[1] * 4,
            hidden_sizes=[8] * 4,
            num_attention_heads=[1] * 4,
            decoder_hidden_size=8,
            sr_ratios=[1] * 4,
        )
        kind, prefix = networks.GLPNForDepthEstimation, "GLPN"
    network = kind(config)
    for parameter in network.parameters():  # as drawn, they would say the same everywhere
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
        elif len(parameter) == len(THINGS):  # that of labels makes all of them unlikely
            torch.nn.init.zeros_(parameter)
    network.save_pretrained(folder)
    getattr(networks, f"{prefix}ImageProcessorPil")(size=size).save_pretrained(folder)
    return folder


def save_vision(name: str, folder: Path) -> Path:
    """A network that pools what it sees of 32x32 pixels, with its processor."""
    networks = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install vqgan[clip]"
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    seen = {**sizes, "image_size": 32, "patch_size": 8}
    square = {"height": 32, "width": 32}
    processor = networks.CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=square)
    if name == "Dinov2Model":
        config = networks.Dinov2Config(**seen, mlp_ratio=2)
        processor = networks.BitImageProcessorPil(size={"shortest_edge": 40}, crop_size=square)
    elif name == "ViTModel":
        config = networks.ViTConfig(**seen, intermediate_size=24)
        processor = networks.ViTImageProcessorPil(size=square)
    elif name == "CLIPModel":
        text = {**sizes, "intermediate_size": 24, "vocab_size": 8}
        vision = {**seen, "intermediate_size": 24}
        config = networks.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    else:
        config = networks.CLIPVisionConfig(**seen, intermediate_size=24, projection_dim=8)
    network = getattr(networks, name)(config)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def named(labels: tuple[str, ...]) -> dict[str, dict[Any, Any]]:
    """Labels as a configuration has them."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


JUDGES = ("CLIPModel", "SiglipModel", "Siglip2Model")


def save_judge(name: str, folder: Path) -> Path:
    """A text-image model with its processor and a tokenizer that knows letters; texts of at most 12 tokens."""
    networks = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install vqgan[clip]"
    )
    torch.manual_seed(0)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    special = ["<pad>", "<unk>", "</s>"]
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    prefix = name.removesuffix("Model")
    text = {**sizes, "max_position_embeddings": 12, "vocab_size": 64}
    vision = {
        **sizes,
        "patch_size": 8,
        **({"num_patches": 16} if name == "Siglip2Model" else {"image_size": 32}),
    }
    settings = {"size": {"height": 32, "width": 32}}
    if name == "CLIPModel":
        words = [
            *letters,
            *(f"{letter}</w>" for letter in letters),
            "re",
            "red</w>",
            "<|startoftext|>",
            "<|endoftext|>",
        ]
        vocabulary = {word: number for number, word in enumerate(words)}
        tokenizer = networks.CLIPTokenizer(vocab=vocabulary, merges=[("r", "e"), ("re", "d</w>")])
        text |= {"bos_token_id": 54, "eos_token_id": 55, "pad_token_id": 55}
        settings = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    elif name == "SiglipModel":
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        vocabulary = {word: number for number, word in enumerate([*special, *letters, "red", "car"])}
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 2)])
        tokenizer = networks.PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
        )
    else:
        words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *letters]
        vocabulary = {word: number for number, word in enumerate(words)}
        tokenizer = networks.Siglip2Tokenizer(vocab=vocabulary, merges=[])
        settings = {"patch_size": 8, "max_num_patches": 16}
    config = getattr(networks, f"{prefix}Config")(text_config=text, vision_config=vision, projection_dim=8)
    network = getattr(networks, name)(config)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    getattr(networks, f"{prefix}ImageProcessorPil")(**settings).save_pretrained(folder)
    return folder


def save_text_encoder(name: str, folder: Path) -> Path:
    """CLIP as a judge is saved, or T5 with a tokenizer of words and letters."""
    if name == "CLIPModel":
        return save_judge(name, folder)
    save_judge("SiglipModel", folder)  # for its tokenizer
    import transformers

    torch.manual_seed(0)
    sizes = {"d_model": 24, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    network = getattr(transformers, name)(transformers.T5Config(vocab_size=64, **sizes))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    network.save_pretrained(folder)
    return folder


def inception_state() -> dict[str, torch.Tensor]:
    """Random weights of FID's Inception, by the names of its file."""
    draws, network = torch.Generator().manual_seed(0), Inception()
    shapes, state = network.state_dict(), dict[str, torch.Tensor]()
    for ours, theirs in published_names(network).items():
        drawn = torch.randn(shapes[ours].shape, generator=draws)
        if drawn.ndim > 1:  # as much goes out as comes in
            drawn *= (2 / drawn[0].numel()) ** 0.5
        elif theirs.endswith(("weight", "var")):
            drawn = drawn.abs() * 0.2 + 0.9
        else:
            drawn *= 0.1
        state[theirs] = drawn
        if theirs.endswith("running_var"):
            state[theirs.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    return state
