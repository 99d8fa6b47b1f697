"""Reading and writing frames: video files (PyAV), folders of images (OpenCV), colour conversion."""
