"""The process storm: the shop as it is deployed, in weather, seen from outside.

``make storm`` runs it. Real web processes, workers, clock, PostgreSQL and Redis; a sandbox of
Stripe and a mail server that keep books of their own; between them proxies that delay and cut.
Nothing here imports the shop: it is met over HTTP, its commands are run, and at the end what it
exports is held against the books of the others.
"""
