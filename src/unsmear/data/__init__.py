"""Training data: camera shake, blur synthesis in linear light, degradations, sources.

Everything here runs on torch, numpy and OpenCV alone; PyAV is imported only where a video
file is read. All randomness comes from explicit generators.
"""
