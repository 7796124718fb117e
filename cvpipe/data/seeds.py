"""Division of an example's random numbers among those who draw them.

`order.example_seed` gives every example of every epoch a block of seeds. Each user adds its own
number to the second element, so that no two draw from the same seed.
"""

SEEDS_PER_EXAMPLE = 128
"""Size of an example's block of seeds."""
# From 0 on: the operations of augmentation, in the order of the pipeline file.
PARTNER_SEED = 120
"""The choice of other examples that join this one: this number and those that follow."""
MIX_SEED = 127
"""The mixing of two examples of a batch."""
