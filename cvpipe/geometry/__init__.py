"""Boxes, anchors, matching, suppression, masks and tiles as pure functions."""
