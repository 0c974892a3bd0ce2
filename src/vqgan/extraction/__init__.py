"""Conditions of photographs: depth, labels and people by networks of others, the rest as our own priors compute it."""

from vqgan.extraction.extractors import KINDS, Extractor, extract, open_extractor
