"""Export of runs as SavedModels, and the gate that checks them."""
