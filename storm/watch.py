"""What must never happen, not even for a moment: SQLite takes notes while the storm blows."""

from __future__ import annotations

PAID = ("payment_confirmed", "awaiting_shipment", "shipped", "delivered")
LIVE = "('creating', 'open', 'processing')"
_PAID = ", ".join(f"'{status}'" for status in PAID)

WATCH = f"""
CREATE TABLE storm_watch (about TEXT, what TEXT);
CREATE TRIGGER watch_status AFTER UPDATE OF status ON orders
WHEN OLD.status IN ({_PAID}) AND NEW.status NOT IN ('cancelled', {_PAID})
BEGIN INSERT INTO storm_watch VALUES (OLD.id, 'order: ' || OLD.status || ' → ' || NEW.status); END;
CREATE TRIGGER watch_payment_status AFTER UPDATE OF payment_status ON orders
WHEN OLD.payment_status IN ('paid', 'partially_refunded', 'refunded', 'disputed')
 AND NEW.payment_status IN ('pending', 'processing', 'failed', 'cancelled')
BEGIN INSERT INTO storm_watch VALUES
 (OLD.id, 'payment: ' || OLD.payment_status || ' → ' || NEW.payment_status); END;
CREATE TRIGGER watch_legs AFTER UPDATE OF state ON stripe_legs
WHEN OLD.state NOT IN {LIVE} AND NEW.state IN {LIVE}
BEGIN INSERT INTO storm_watch VALUES
 (OLD.attempt_id, 'leg: ' || OLD.state || ' → ' || NEW.state); END;
CREATE TRIGGER watch_attempts AFTER UPDATE OF state ON checkout_attempts
WHEN (OLD.state = 'settled' AND NEW.state <> 'settled')
  OR (OLD.state = 'closed' AND NEW.state <> 'closed')
BEGIN INSERT INTO storm_watch VALUES
 (OLD.id, 'attempt: ' || OLD.state || ' → ' || NEW.state); END;
CREATE TRIGGER watch_events AFTER UPDATE OF state ON stripe_events
WHEN OLD.state <> 'new' AND NEW.state = 'new'
BEGIN INSERT INTO storm_watch VALUES (COALESCE(OLD.attempt_id, ''), 'event reopened: ' || OLD.id);
END;
"""
