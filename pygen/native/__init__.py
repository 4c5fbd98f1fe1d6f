"""Launchers of the compiled kernels: allocate outputs, pass addresses, strides and the thread count or stream."""
