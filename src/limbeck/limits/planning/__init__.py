"""How many queries of which kind, and what they cost."""
