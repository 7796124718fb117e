"""Weights that others trained: files of PyTorch, safetensors and Keras, read without running what
is in them, and the names of their layers in networks of this project.
"""
