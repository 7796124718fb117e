"""Pretrained weights: safe readers for files of PyTorch, safetensors and Keras, and mapping of
their layer names to cvpipe's networks.
"""
