"""Networks of Hugging Face, found by name or in a folder, with what prepares their inputs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from vqgan.errors import CheckpointError, needing, printable


def open_pretrained(
    name: str,
    purpose: str,
    extra: str,
    kinds_for: Callable[[Any, Any], Iterable[str]],
    *,
    images: bool = True,
    texts: bool = False,
) -> tuple[Any, Any, Any]:
    """A network in fp32 on the CPU, what resizes and normalizes pictures for it, and its tokenizer.

    It is fetched into Hugging Face's cache. Weights come from safetensors alone, and no code beside them is run.

    Args:
        name: A folder, or a name on huggingface.co.
        purpose: What it is for, in messages.
        extra: The extra of this package that installs transformers.
        kinds_for: From transformers and the network's configuration, the classes that fit, perhaps with those to open.
        images: Whether it sees pictures, for which something prepares them.
        texts: Whether it reads texts, which a tokenizer cuts.

    Raises:
        ConfigError: If transformers is not installed.
        CheckpointError: If there is no such model, it is of another class, or lacks weights or a tokenizer of its own.
    """
    with needing("transformers", purpose, extra):
        import transformers
    processor, tokenizer, safe = None, None, {"trust_remote_code": False}
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # of weights that are not read it would print a table
    try:
        config = transformers.AutoConfig.from_pretrained(name, **safe)
        kinds = kinds_for(transformers, config)
        found = min({*(config.architectures or ())} & {*kinds}, default="")
        kind = getattr(transformers, kinds.get(found, "") if isinstance(kinds, Mapping) else found, None)
        if kind is None:
            raise ValueError(f"it is a {' and '.join(config.architectures or ['model without a task'])}")
        if images:
            processor = transformers.AutoImageProcessor.from_pretrained(name, backend="pil", **safe)
        if texts:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, config=config, **safe)
        options = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
        own = config if isinstance(config, kind.config_class) else config.text_config
        model, loaded = kind.from_pretrained(name, config=own, **options)
        missing = sorted(set(loaded["missing_keys"]) & {key for key, _ in model.named_parameters()})
        if missing:  # they would be random
            raise ValueError(f"{len(missing)} weights are missing, such as `{missing[0]}`")
    except Exception as error:  # of many kinds: no file, a damaged one, no network, a package that is missing
        files = "config.json, " + "preprocessor_config.json, " * images + "model.safetensors"
        hint = f"name a model on huggingface.co or a folder: {files}" + ", tokenizer.json" * texts
        raise refusal(name, f"for {purpose}", error, hint) from error
    finally:
        transformers.logging.set_verbosity(before)
    if texts:
        _check_tokenizer(name, tokenizer, getattr(config, "text_config", config).vocab_size)
    return model.requires_grad_(False).eval(), processor, tokenizer


def _check_tokenizer(name: str, tokenizer: Any, codes: int) -> None:
    """One without words is made up where its file is missing."""
    size, pad = len(tokenizer), tokenizer.pad_token
    if not len(set(tokenizer.all_special_ids)) < size <= codes or pad is None:
        what = f"the tokenizer of `{printable(name)}` has {size} tokens, the model {codes}; padding: {pad}"
        raise CheckpointError(what, hint="give the model's own tokenizer")


def refusal(name: str, where: str, error: Exception, hint: str) -> CheckpointError:
    """The error that tells why a network cannot be used, in one line of the other's."""
    reason = printable((str(error).strip() or type(error).__name__).splitlines()[0])
    return CheckpointError(f"`{printable(name)}` cannot be used {where}: {reason}", hint=hint)
