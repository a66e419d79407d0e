# The image of jellypin: one static program and nothing else, run by nobody in particular.
#
#   docker build -t jellypin .
#   docker run -v ./jellypin.toml:/etc/jellypin/jellypin.toml:ro -p 8096:8096 jellypin
#
# For several platforms: docker buildx build --platform linux/amd64,linux/arm64 . The build itself runs on the builder's own
# platform and compiles for the other: zig is the C compiler and the linker for both.

FROM --platform=$BUILDPLATFORM rust:1.95-slim-trixie AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && python3 -m venv /opt/zig \
    && /opt/zig/bin/pip install --no-cache-dir cargo-zigbuild==0.24.1 ziglang==0.17.1
ENV PATH=/opt/zig/bin:$PATH
# The allocator names the time at which it was built, which zig refuses.
ENV CFLAGS=-Wno-error=date-time
ARG TARGETARCH
RUN case "$TARGETARCH" in \
      amd64) echo x86_64-unknown-linux-musl ;; \
      arm64) echo aarch64-unknown-linux-musl ;; \
      *) echo "no build for $TARGETARCH" >&2; exit 1 ;; \
    esac >/target \
    && rustup target add "$(cat /target)"
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# The workspace's other members: cargo reads their manifests, and builds nothing of them.
COPY loadtest ./loadtest
COPY tests/faults ./tests/faults
COPY tests/sim ./tests/sim
RUN cargo zigbuild --release --locked --package jellypin --bin jellypin --target "$(cat /target)" \
    && install -D "target/$(cat /target)/release/jellypin" /image/usr/local/bin/jellypin \
    && install -D /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && install -d /image/etc/jellypin \
    # For `[state] path`; a volume that is mounted here takes over the owner.
    && install -d -o 10001 -g 10001 -m 0700 /image/var/lib/jellypin

FROM scratch
LABEL org.opencontainers.image.title="jellypin" \
      org.opencontainers.image.description="Reverse proxy that makes several Jellyfin servers behave as one" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /image /
ENV PATH=/usr/local/bin
USER 10001:10001
# Clients, and operators.
EXPOSE 8096 9096
# Reads /etc/jellypin/jellypin.toml unless it is told otherwise; `check` reads it and starts nothing.
ENTRYPOINT ["/usr/local/bin/jellypin"]
# By the admin API, of the same file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/local/bin/jellypin", "health"]
