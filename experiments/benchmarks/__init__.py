"""Benchmarks: what training, searching, updating and starting cost, in time and memory."""
