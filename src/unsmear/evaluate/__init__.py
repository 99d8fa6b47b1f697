"""Measuring: PSNR and SSIM, validation on paired sequences."""
