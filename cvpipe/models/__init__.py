"""Networks: blocks, backbones and heads."""
