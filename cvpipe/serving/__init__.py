"""REST server with TensorFlow Serving's API, its client, and prediction from files."""
