"""Pure-PyTorch truth: what every kernel must equal. Imports nothing else from pygen."""
