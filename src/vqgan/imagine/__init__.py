"""Pictures from words: text-image models of others judge cut-outs of them, and the latents follow."""

from vqgan.imagine.cutouts import CutOutConfig, cut_outs
from vqgan.imagine.imagining import ImagineConfig, ImagineProgress, Imagining, Request, imagine, random_codes
from vqgan.imagine.judge import TextImageJudge, open_judge
from vqgan.imagine.motion import Motion
from vqgan.imagine.prompts import Prompt, Story, parse_prompt, parse_story
from vqgan.imagine.variables import LatentsConfig, MixtureConfig, PixelsConfig
