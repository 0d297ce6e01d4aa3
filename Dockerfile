# Makes the image's bill of materials (docker buildx build --sbom=true) list the crates of Cargo.lock too.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

FROM rust:1.95-bookworm AS build
# `ci` compiles in a fraction of the time of `release`, and runs slower. Published images are made with `release`.
ARG PROFILE=ci
# Static, so that the program needs no other file. Because of --target, build scripts and proc macros do not get the
# flag.
ENV RUSTFLAGS="-C target-feature=+crt-static"
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    target=$(rustc --print host-tuple) \
    && cargo build --locked --profile "$PROFILE" --bin app --target "$target" --target-dir /target \
    && install -D "/target/$target/$PROFILE/app" /out/app \
    && mkdir -p /out/folders/data /out/folders/secrets/app /out/folders/secrets/database

FROM scratch
LABEL org.opencontainers.image.title="Postrider" \
      org.opencontainers.image.description="A webhook server: accepts messages over REST, stores them durably and delivers them, signed, at least once." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A new volume takes its owner from the folder on which it is mounted.
COPY --from=build --chown=65532:65532 /out/folders/data /data
COPY --from=build --chown=65532:65532 /out/folders/secrets /secrets
COPY --from=build /out/app /app
ENV POSTRIDER_LISTEN=0.0.0.0:8080 POSTRIDER_METRICS_LISTEN=0.0.0.0:9464
USER 65532:65532
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/app", "healthcheck"]
ENTRYPOINT ["/app"]
CMD ["serve"]
