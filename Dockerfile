# One image with the gateway, the three workers and graph-tokens; the command picks which of them runs.

ARG RUST_VERSION=1.89

FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive the build, not the image: what the next stage needs is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p oxbull-workers \
        --bin gateway --bin healthcheck --bin post-publishing --bin webhook-processing --bin analytics-refresh \
        --bin graph-tokens \
    && mkdir /out \
    && cd target/release \
    && cp gateway healthcheck graph-tokens post-publishing webhook-processing analytics-refresh /out/

# glibc, root certificates and a user without rights; no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
USER nonroot:nonroot
CMD ["post-publishing"]
