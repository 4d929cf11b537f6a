"""What is predicted: bounds, laws, the linear case, several teachers."""
