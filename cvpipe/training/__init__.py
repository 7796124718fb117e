"""Training of pipelines. `train.py` has the loop."""
