"""Layers and small networks: plain keyword arguments, no configurations, no files."""
