"""Loss functions by task."""
