"""Triton kernels, installed as pygen.kernels."""
