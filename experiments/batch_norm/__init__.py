"""Batch normalization (notes §3)."""
