"""Assignment of an example's random seeds to operations.

`order.example_seed` gives every example of every epoch a block of seeds. Each operation adds its
own number to the second element, so no two operations share a seed.
"""

SEEDS_PER_EXAMPLE = 128
"""Size of an example's block of seeds."""
# The seeds from 0 on belong to the augmentations, in the order of the pipeline file.
PARTNER_SEED = 120
"""First of the seeds that choose other examples to combine with this one."""
MIX_SEED = 127
"""Seed for the mixing of this example with another one of its batch."""
