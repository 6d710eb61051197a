#!/bin/sh
# Makes the secrets of docker-compose.yml's stack, each once, in the folder secrets beside this script.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
# Containers run as users of their own, so the files are open and the folder is not.
chmod 700 secrets
for name in cluster_secret admin_token redis_password s3_user s3_password grafana_password; do
  if [ ! -e "secrets/$name" ]; then
    head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n' >"secrets/$name.new"
    chmod 444 "secrets/$name.new"
    mv "secrets/$name.new" "secrets/$name"
    echo "made deploy/compose/secrets/$name"
  fi
done
