"""The weight while a student trains."""
