"""What is wrong with a distillation set."""
