"""The input pipeline: sources, decoding, augmentation, preparation and streams of batches."""
