"""Speed against the goals: ``python -m bench``. Speaks HTTP to the shop and imports nothing of it.

Absolute times of one machine say little, so every figure is a ratio of two sides that were
measured in turns in the same run, on the same servers.
"""
