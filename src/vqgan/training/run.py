"""The types of a run: what is trained, how, on what, for how long."""

from vqgan.conditioning import ConditionerConfig
from vqgan.config import Config
from vqgan.tokenizer import TokenizerConfig
from vqgan.training.prior_task import PriorShape, PriorTaskConfig
from vqgan.training.settings import DataConfig, LoopConfig
from vqgan.training.tokenizer_task import TokenizerTaskConfig


class TokenizerRun(Config, frozen=True, tag_field="kind", tag="tokenizer"):
    """Trains a tokenizer."""

    tokenizer: TokenizerConfig
    task: TokenizerTaskConfig
    data: DataConfig
    training: LoopConfig


class PriorRun(Config, frozen=True, tag_field="kind", tag="prior"):
    """Trains a prior on the codes of a trained tokenizer."""

    conditioner: ConditionerConfig
    prior: PriorShape
    task: PriorTaskConfig
    data: DataConfig
    training: LoopConfig


Run = TokenizerRun | PriorRun
