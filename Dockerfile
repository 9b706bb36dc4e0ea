# The program in a small image, as an ordinary user.
#
#   docker build -t sf2kafka .
#   docker run -v ./config.yaml:/etc/sf2kafka/config.yaml:ro -e SF_CLIENT_ID -e SF_CLIENT_SECRET sf2kafka
#
# The base images are arguments, so that a mirror or an image of one's own can stand in.
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
# The image's own toolchain: rust-toolchain.toml would have rustup fetch clippy and rustfmt too.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
COPY . .
RUN cargo build --release --locked --package sf2kafka --bin sf2kafka

FROM ${RUNTIME_IMAGE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home sf2kafka
COPY --from=build /build/target/release/sf2kafka /usr/local/bin/sf2kafka
USER 10001:10001
WORKDIR /home/sf2kafka
EXPOSE 8180
# Bash speaks HTTP here because a slim image has neither curl nor wget.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8180 && printf 'GET /health/live HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.[01] 200' <&3"]
ENTRYPOINT ["sf2kafka"]
CMD ["run", "-c", "/etc/sf2kafka/config.yaml"]
