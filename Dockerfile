# One image for every Penstock process: worker, shadow worker, monitor, producer. Set up by the script that sets up a checkout.
FROM python:3.11-slim
WORKDIR /opt/penstock
RUN useradd --create-home --uid 10001 penstock \
    && mkdir -p /srv/penstock/models /srv/penstock/events \
    && chown -R penstock /srv/penstock
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY scripts scripts
RUN PIP_NO_CACHE_DIR=1 scripts/setup
COPY schemas schemas
COPY models models
COPY streams streams
COPY monitoring monitoring
COPY penstock penstock
COPY examples examples
COPY --chown=penstock examples /srv/penstock/examples
ENV PATH=/opt/penstock/.venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /srv/penstock
USER penstock
ENTRYPOINT ["penstock"]
CMD ["--help"]
