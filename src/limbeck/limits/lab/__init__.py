"""Simulations that the limits over finite domains must pass, case by case."""
