"""Experiments: verdicts, figures, and results on disk."""
