"""Pictures from words: how well they fit, by text-image models of others."""

from vqgan.imagine.judge import TextImageJudge, open_judge
