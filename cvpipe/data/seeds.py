"""Assignment of an example's random seeds to their users.

`order.example_seed` gives every example of every epoch a block of seeds. Each user adds its own
number to the second element, so no two users share a seed.
"""

SEEDS_PER_EXAMPLE = 128
"""Size of an example's block of seeds."""
# From 0: the augmentations, in the order of the pipeline file.
PARTNER_SEED = 120
"""Choice of other examples that join this one: this number and the following ones."""
MIX_SEED = 127
"""Mixing of two examples of a batch."""
