# syntax=docker/dockerfile:1
ARG NODE_VERSION=24
FROM node:${NODE_VERSION}-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY scripts ./scripts
COPY src ./src
# The image has its own Node: the one that npm brings for development is dropped with the other development dependencies.
RUN npm run build && npm prune --omit=dev

FROM node:${NODE_VERSION}-slim
LABEL org.opencontainers.image.title="Weir" \
      org.opencontainers.image.description="One caching /v2/ endpoint in front of every container registry" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
ENV NODE_ENV=production \
    WEIR_SERVER_LISTEN=0.0.0.0:5000 \
    WEIR_ADMIN_LISTEN=0.0.0.0:5001 \
    WEIR_STORAGE_FILESYSTEM_ROOT=/var/lib/weir
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
RUN mkdir -p /var/lib/weir && chown 65532:65532 /var/lib/weir
USER 65532:65532
VOLUME /var/lib/weir
EXPOSE 5000 5001
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:5001/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Left to itself Node takes up to 128 MiB for objects that live for a moment, more than all the rest under load.
ENTRYPOINT ["node", "--max-semi-space-size=16", "dist/main.js"]
CMD ["serve"]
