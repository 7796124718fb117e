"""Explanations and attacks of networks: pure functions on tensors, in static graphs.

Dimensions: B images; H, W, C of the network's input; K classes; h, w, F of a feature map.
"""
