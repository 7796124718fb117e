"""Prediction of many images by an artifact, in order and resumable."""
