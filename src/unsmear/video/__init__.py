"""Getting frames in and out: video files (PyAV), folders of pictures (OpenCV), colour."""
