"""A pipeline checked against an accelerator that isn't there."""
