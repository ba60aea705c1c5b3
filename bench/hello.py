"""The measure of the server itself: one Flask route without hooks, settings or extensions."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "hello"
