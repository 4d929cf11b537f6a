"""Moments of the gradients of a student, a task and a teacher."""
