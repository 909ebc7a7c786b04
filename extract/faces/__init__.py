"""Faces: where they are in a frame, which one a clip is about, and crops of it. No torch at import.

The detector is MTCNN on the CPU, since it runs in decode workers on numpy frames; `detect.py` and `mtcnn.py` import
torch and are imported only where faces are wanted. Tracks and crops need numpy and OpenCV alone.
"""
