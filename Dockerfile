# syntax=docker/dockerfile:1
# The image of `hongyan serve` (docs/deploy-kubernetes.md). `docker buildx build .` compiles the source; the release workflow takes the
# binaries of the release (`--target released`).

FROM rust:1.95-trixie AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake perl && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG HONGYAN_COMMIT=unknown
# OpenSSL and zlib for Kafka are compiled in, as in a release. librdkafka's cmake build wants the empty header in deploy/include.
RUN CFLAGS=-I/src/deploy/include \
    cargo build --release --locked --package hongyan-runtime --no-default-features --features hongyan/msk

FROM debian:trixie-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
ENV HONGYAN_LISTEN=0.0.0.0:8080 \
    HONGYAN_INTERNAL_LISTEN=0.0.0.0:8081
USER 65532:65532
EXPOSE 8080 8081
# /ready and not /health: /health fails while Redis, Kafka or MySQL is away, and a new container would not help there.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8081 && printf 'GET /ready HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]
ENTRYPOINT ["hongyan"]
CMD ["serve"]

# `files` is a folder with the unpacked archives of a release in `amd64` and `arm64`:
# docker buildx build --target released --build-context files=FOLDER .
FROM base AS released
ARG TARGETARCH
COPY --from=files ${TARGETARCH}/LICENSE ${TARGETARCH}/THIRD-PARTY.txt /usr/share/doc/hongyan/
COPY --from=files ${TARGETARCH}/hongyan /usr/local/bin/hongyan

FROM base AS source
COPY --from=build /src/LICENSE /usr/share/doc/hongyan/
COPY --from=build /src/target/release/hongyan /usr/local/bin/hongyan
