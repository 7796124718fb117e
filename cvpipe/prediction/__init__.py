"""Prediction of many images by an artifact. Answers are in the order of the images, and an
interrupted prediction can be resumed.
"""
