"""cvpipe: training, evaluation, export and serving of vision models as one static TensorFlow
graph.
"""

__version__ = "0.1.0"
