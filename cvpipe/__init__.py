"""cvpipe: from labeled images to a served answer on one static graph."""

__version__ = "0.1.0"
