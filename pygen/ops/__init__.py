"""One file per op: the public function, its checks, its schema and fake, its autograd."""
