"""Two storms over the shop: shoppers, crashes, faults and races, then the proof.

The deterministic one (``flask storm``) plays in one thread on a virtual clock. The one of processes
(``make storm``, in ``storm.processes``) has real servers, kills them, and knows the shop over HTTP
alone: importing it must not import the shop, so that nothing is imported here.
"""
