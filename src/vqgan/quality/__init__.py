"""How good a model is, on images that it was not trained on."""

from vqgan.quality.measure import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
