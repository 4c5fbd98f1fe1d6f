"""Compositions of torch's own ops that are as safe as a kernel and, somewhere, as fast: entries of the dispatch table."""
