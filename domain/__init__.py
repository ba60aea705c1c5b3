"""What the shop knows, without any framework: standard library only, no I/O."""
