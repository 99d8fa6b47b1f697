"""Training data: camera shake, blur synthesis in linear light, degradations, sources.

Everything here needs only torch, numpy and OpenCV. PyAV is imported only to read video files and to
pass clips through a video codec. All randomness comes from explicit generators.
"""
