"""Pictures from words: how well they fit, by text-image models of others, and the cut-outs that these see."""

from vqgan.imagine.cutouts import CutOutConfig, cut_outs
from vqgan.imagine.judge import TextImageJudge, open_judge
