"""The demo: both stages trained on real frames in minutes, measured on held-out frames, drawn and reported."""

from vqgan.demo.run import run_demo
