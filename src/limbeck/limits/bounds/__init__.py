"""What is proved about the risk of each privilege."""
