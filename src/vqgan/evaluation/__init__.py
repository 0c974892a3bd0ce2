"""Measured quality: numbers computed from arrays that others made."""
