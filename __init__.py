"""mmdf: multimodal deepfake detection in two stages with a cache between them.

Importing the package loads nothing else: no torch, no decoder, no weights.
"""

__version__ = "0.1.0"
