"""The distillation weight from gradient moments, and the theory of the linear case."""
