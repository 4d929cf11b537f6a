"""Learners and exact risks on finite domains."""
