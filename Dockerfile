# One image for every process: web by default, `flask worker`, `flask clock`, `flask db upgrade`.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/quittance

# The packages first: they change less often than the code, and the layer is kept.
COPY requirements.txt .
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt

COPY . .
RUN useradd --system --no-create-home quittance
USER quittance

EXPOSE 8000
CMD ["gunicorn", "--config", "gunicorn.conf.py", "app:create_app()"]
