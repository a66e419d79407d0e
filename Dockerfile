# The image of jellypin: one program on a plain Debian, run by nobody in particular.
#
#   docker build -t jellypin .
#   docker run -v ./jellypin.toml:/etc/jellypin/jellypin.toml:ro -p 8096:8096 jellypin

FROM rust:1.95-slim-trixie AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# The workspace's other members: cargo reads their manifests, and builds nothing of them.
COPY loadtest ./loadtest
COPY tests/sim ./tests/sim
RUN cargo build --release --locked --package jellypin --bin jellypin

# The same Debian as above: the program is linked to the C library of where it was built.
FROM debian:trixie-slim
COPY --from=build /build/target/release/jellypin /usr/local/bin/jellypin
# For `[state] path`; a volume that is mounted here takes over the owner.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/jellypin
USER 10001:10001
# Clients, and operators.
EXPOSE 8096 9096
# Reads /etc/jellypin/jellypin.toml unless it is told otherwise; `check` reads it and starts nothing.
ENTRYPOINT ["/usr/local/bin/jellypin"]
