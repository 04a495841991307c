# A stand-in for heartexlabs/label-studio where no registry of images can be reached: the same release, from its wheel,
# as a user that is not root, with its data where the image has it.
FROM python:3.11-slim

RUN python -m venv --without-pip /label-studio/.venv \
    && pip --python /label-studio/.venv/bin/python install --no-cache-dir label-studio==1.23.2 \
    && mkdir /label-studio/data \
    && chown 1001:0 /label-studio/data

ENV PATH=/label-studio/.venv/bin:$PATH \
    HOME=/label-studio \
    LABEL_STUDIO_BASE_DATA_DIR=/label-studio/data
USER 1001:0
WORKDIR /label-studio
VOLUME /label-studio/data
EXPOSE 8080
CMD ["label-studio", "start", "--no-browser", "--port", "8080"]
