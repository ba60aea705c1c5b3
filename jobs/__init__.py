"""What workers run: short functions that take ids or nothing, call one service, may run twice."""
