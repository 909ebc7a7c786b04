"""Stage two: embeddings from the cache become calibrated scores.

Trains small heads on frozen features in seconds. Never decodes a file and never runs a backbone.
"""
