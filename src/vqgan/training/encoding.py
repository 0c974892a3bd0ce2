"""The samples of a prior's training, encoded to disk before it."""

import hashlib
import io
import logging
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import chain, islice
from operator import methodcaller
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from vqgan.checkpoints.codes import tokenizer_digest
from vqgan.config import to_mapping
from vqgan.data.codes import INDEX, CodesRecord, CodesSource, read_record
from vqgan.data.conditions import Classes, ConditionKind, Texts
from vqgan.data.loader import check_source, evaluation_batches, training_batches
from vqgan.data.source import Source
from vqgan.data.transforms import Framing
from vqgan.errors import ConfigError, DataError, require
from vqgan.output_files import locked, make_folder, replace_file, write_json
from vqgan.tokenizer import Tokenizer
from vqgan.training.observer import to_device
from vqgan.training.prior_task import PriorTask, encoded
from vqgan.training.run import DataConfig, PriorRun, differences, open_sources
from vqgan.training.task import Task
from vqgan.types import OnProgress, Progress

logger = logging.getLogger(__name__)

_FILES = 250
"""At most so many for the training samples; an interruption costs the work of one."""


def encode_samples(
    run: PriorRun,
    tokenizer: Tokenizer,
    out: Path,
    *,
    copies: int = 1,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> None:
    """Encodes the samples of a prior's run to a folder, or those that are missing from it since it was interrupted.

    Args:
        run: Its data counts, and the size of its batches: they are encoded as in training.
        tokenizer: In evaluation mode and in fp32, as training has it.
        out: The folder.
        copies: Samples of each image that is trained on; those held out have one.
        seed: Of order and augmentation.
        on_progress: Told after each batch.

    Raises:
        ConfigError: If the size does not fit, the folder holds other samples, or codes lack a condition that is named.
        DataError: If too many images cannot be read, or they do not fit their conditions.
        OutputError: If the disk refuses.
    """
    data, share = run.data, run.training.share(1)
    tokenizer.grid_size(data.image_size)  # what does not fit leaves no folder
    kinds: dict[str, ConditionKind] = {"class": Classes()}
    sources = open_sources(data, kinds=kinds | ({"text": Texts()} if "text" in data.conditions else {}))
    check_source(sources[0], tokenizer.image_channels)
    totals = len(sources[0]) * copies, len(sources[1])
    record = CodesRecord(
        tokenizer=tokenizer_digest(tokenizer),
        framing=msgspec.convert(data, Framing, from_attributes=True),
        seed=seed,
        copies=copies,
        shard=share * -(-totals[0] // (share * _FILES)),
        class_names=sources[0].class_names,
        fingerprints=[each.fingerprint for each in sources],
        labels=[[*map(each.label, range(len(each)))] for each in sources],
        captions=[[*map(list, each.captions)] for each in sources],
        files=[{}, {}],
    )
    make_folder(out)
    with locked(out / ".lock"):
        known = _begin(out, record).files
        for part, (source, total) in enumerate(zip(sources, totals, strict=True)):
            size, tell = total if part else record.shard, partial(_tell, on_progress, total)
            for number, first in enumerate(range(0, total, size)):
                path = out / f"{('train', 'heldout')[part]}-{number:05}.npy"
                content = path.read_bytes() if path.exists() else b""
                digest = hashlib.sha256(content).hexdigest()
                if not content or digest != known[part].get(path.name, digest):  # missing or damaged
                    samples, chance = range(first, min(first + size, total)), None if part else seed
                    content = _encoded(run, tokenizer, source, samples, seed=chance, tell=tell)
                    replace_file(path, methodcaller("write_bytes", content))
                record.files[part][path.name] = hashlib.sha256(content).hexdigest()
        write_json(out / INDEX, to_mapping(record))


def _begin(out: Path, record: CodesRecord) -> CodesRecord:
    """What was recorded at an earlier time, if it is the same; else a new record."""
    if not (out / INDEX).exists():
        other = sorted(each.name for each in out.glob("*.npy"))
        require(not other, f"`{out}` holds `{''.join(other[:1])}`", hint="give an empty folder with `out=`")
        write_json(out / INDEX, to_mapping(record))
    found = read_record(out)
    for key, *values in differences(to_mapping(found), to_mapping(record)):
        what = f"`{key}` is another" if len(str(values)) > 200 else "`{}` is {}, now {}".format(key, *values)
        hint = "give another folder with `out=`, or what these were made of"
        require(key.startswith("files"), f"`{out}` holds other samples: their {what}", hint=hint)
    return found


@torch.no_grad()
def _encoded(
    run: PriorRun,
    tokenizer: Tokenizer,
    source: Source,
    samples: range,
    *,
    seed: int | None,
    tell: Callable[[int], None],
) -> bytes:
    """A file with samples of a training, or without a seed with all held-out images."""
    share, size = run.training.share(1), run.data.image_size
    transform = run.data.transform(tokenizer.image_channels)
    how: dict[str, Any] = {"batch_size": share, "workers": run.data.workers}
    batches: Any = evaluation_batches(source, transform, **how)
    if seed is not None:
        batches = training_batches(source, transform, seed=seed, start=samples.start, **how)
    numbers = {text: number for number, text in enumerate(chain.from_iterable(source.captions))}
    width = np.uint16 if tokenizer.codebook_size <= 1 << 16 else np.uint32
    fields: list[Any] = [("codes", width, tokenizer.grid_size(size)), ("is_read", bool)]
    fields += [(name, np.int32) for name, has in (("class", source.class_names), ("text", numbers)) if has]
    rows = np.zeros(len(samples), fields)
    with closing(batches):
        for batch in islice(batches, -(-len(rows) // share)):
            for label, reason in batch.skipped if seed is None else ():
                logger.warning("skipped `%s`, which is held out: %s", label, reason)
            if not len(batch.images):
                continue
            codes = encoded(tokenizer, to_device(batch, tokenizer.weight.device), size).cpu().numpy()
            values: dict[str, Any] = {"codes": codes, "is_read": np.ones(len(codes), bool), **batch.condition}
            if numbers:
                values["text"] = np.array([numbers[text] for text in batch.condition["text"]])
            places = batch.sample.numpy() - samples.start
            for name in rows.dtype.names or ():  # the last batch of a training reaches beyond the last row
                rows[name][places[places < len(rows)]] = values[name][places < len(rows)]
            tell(int(batch.sample[-1]) + 1)
    np.save(file := io.BytesIO(), rows, allow_pickle=False)
    return file.getvalue()


def _tell(on_progress: OnProgress | None, total: int, done: int) -> None:
    if on_progress is not None:
        on_progress(Progress("encode", min(done, total), total))


def check_codes(sources: tuple[Source, Source], data: DataConfig, task: Task) -> None:
    """Checks that samples that were encoded before are those that a run would encode itself.

    Raises:
        ConfigError: If it learns from images, makes samples in another way, or needs a condition that codes lack.
        DataError: If another tokenizer made them.
    """
    for source in sources:
        if not isinstance(source, CodesSource):
            continue
        what = f"`{source.name}` holds codes, but a {task.stage} learns from images"
        if not isinstance(task, PriorTask):
            raise ConfigError(what, hint="give the images themselves")
        record, model = source.record, task.synthesizer
        if record.tokenizer != tokenizer_digest(model.tokenizer):
            what = f"the codes in `{source.name}` were made by another tokenizer"
            raise DataError(what, hint="give the tokenizer that encoded them, or encode with this one")
        for name, old in {**msgspec.structs.asdict(record.framing), "cached_codes": 0}.items():
            found = getattr(data, name)
            what = f"`data.{name}` is {found}, but the codes in `{source.name}` were made with {old}"
            require(found == old, what, hint="give what they were made with, or encode to another folder")
        for part in model.conditioner.parts:
            what = f"the condition `{part.name}` does not come with codes, only `class` and `text` do"
            is_known = part.name in ("class", "text", "unconditional")
            require(is_known, what, hint="train on the images themselves")
