"""The demos: both stages trained on real pictures in minutes, measured on held-out ones, drawn and reported."""

from vqgan.demo.conditions import run_conditions_demo
from vqgan.demo.large import run_large_demo
from vqgan.demo.phases import Demo
from vqgan.demo.run import run_demo
from vqgan.demo.words import run_words_demo
