# One image for web server, daemon and code location: compose.yaml says which command each runs. See docs/deploy.md.
FROM python:3.11.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# What the tests ran with, to the byte: the lock has hashes.
COPY requirements.lock ./
RUN pip install --no-deps --require-hashes --requirement requirements.lock
RUN pip check

# No .env: it says where a checkout keeps its things, and outranks what is set here.
COPY pyproject.toml journeys.yaml ./
COPY content/ content/
COPY atc_pipeline/ atc_pipeline/
COPY assets/ assets/
COPY resources/ resources/
COPY deploy/dagster.yaml deploy/workspace.yaml /srv/dagster/
RUN python -m compileall -q atc_pipeline assets resources

RUN useradd --uid 10001 --create-home atc
RUN mkdir -p /var/lib/atc/dagster
RUN chown -R atc:atc /var/lib/atc /srv/dagster
USER atc

ENV DAGSTER_HOME=/srv/dagster ATC_HOME=/var/lib/atc ATC_HISTORY=/var/lib/atc/dagster PYTHONPATH=/app
VOLUME /var/lib/atc
EXPOSE 3000 4000
CMD ["dagster", "api", "grpc", "--module-name", "atc_pipeline.definitions", "--host", "0.0.0.0", "--port", "4000"]
