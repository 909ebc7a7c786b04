"""Decoding: files to arrays. No torch here, so that decode workers start fast and stay small.

What to decode with is not ours: Pillow for images, soundfile for sound, decord for frames, PyAV for sound in
containers (docs/decisions/0003-decoders.md). Ours are the limits, the sampling of frames, and the errors in words.
"""
