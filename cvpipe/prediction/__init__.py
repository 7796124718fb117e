"""Answers of an artifact to many images: found, answered in order, written so that a stopped
prediction goes on.
"""
