# syntax=docker/dockerfile:1

# Node as the tests run it; test/e2e/container.test.ts compares it with package-lock.json.
ARG NODE_VERSION=24.21.0

# JavaScript is the same on every architecture: it is built on the builder's own, without emulation. No package runs anything
# when it is installed; the Node that npm brings for development would, and is not needed where there is one.
FROM --platform=${BUILDPLATFORM} docker.io/library/node:${NODE_VERSION}-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY scripts ./scripts
COPY src ./src
RUN npm run build && mkdir -p /volume/weir

# What serving needs.
FROM --platform=${BUILDPLATFORM} docker.io/library/node:${NODE_VERSION}-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts

FROM docker.io/library/node:${NODE_VERSION}-slim
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Weir" \
      org.opencontainers.image.description="One caching /v2/ endpoint in front of every container registry" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /app
# In a container, ports and folders are the image's: these win over the same keys of a file.
ENV NODE_ENV=production \
    WEIR_SERVER_LISTEN=0.0.0.0:5000 \
    WEIR_ADMIN_LISTEN=0.0.0.0:5001 \
    WEIR_STORAGE_FILESYSTEM_ROOT=/var/lib/weir
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/package.json ./
COPY --from=build /app/dist ./dist
COPY --from=build --chown=65532:65532 /volume /var/lib
USER 65532:65532
# The only place that is written to. Everything else may be read-only, /tmp too.
VOLUME /var/lib/weir
EXPOSE 5000 5001
# Fails while Weir starts and while it stops.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.WEIR_ADMIN_LISTEN.split(':').pop()}/readyz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Left to itself Node takes up to 128 MiB for objects that live for a moment, more than all the rest under load.
ENTRYPOINT ["node", "--max-semi-space-size=16", "dist/main.js"]
CMD ["serve"]
