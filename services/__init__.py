"""What the shop does, and the transactions in which it does it.

Public functions own their ``atomic()`` blocks and never call each other inside one. Stripe is
called between transactions, never inside.
"""
