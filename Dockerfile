# Builds with BuildKit and without. Nothing secret goes in: every module comes from the public proxy.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What "wabot version" says, for example: --build-arg VERSION="$(git describe --tags --always --dirty)"
ARG VERSION=unknown
# The same source, Go and VERSION give the same bytes. The compiler's cache is a gigabyte that no later step needs.
RUN CGO_ENABLED=0 GOCACHE=/tmp/cache go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X wabot/internal/app.stamp=${VERSION}" -o /image/wabot ./cmd/wabot \
 && rm -rf /tmp/cache \
 && mkdir -p /image/session \
 && mkdir -p /image/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && cp /usr/local/go/lib/time/zoneinfo.zip /image/zoneinfo.zip

FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="wabot" \
      org.opencontainers.image.description="A WhatsApp bot that answers with a language model" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /image/etc /etc
COPY --from=build /image/zoneinfo.zip /zoneinfo.zip
COPY --from=build --chown=65532:65532 /image/session /session
COPY --from=build /image/wabot /wabot
# In a container the published port decides who reaches the page, so it listens on every address.
ENV ZONEINFO=/zoneinfo.zip \
    WABOT_CONTAINER=True \
    HTTP_ADDR=0.0.0.0:3000 \
    SESSION_DIR=/session
# By number: there is no /etc/passwd to look a name up in.
USER 65532:65532
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/wabot", "healthcheck"]
ENTRYPOINT ["/wabot"]
