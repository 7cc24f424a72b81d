#!/usr/bin/env bash
# Builds all images: `make images`. Settings: TAG, REPOSITORY, BASE, BUILDER, BUILD_FLAGS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

REPOSITORY=${REPOSITORY:-docker.io/scoreboard}
TAG=${TAG:-dev}
BASE=${BASE:-docker.io/library/python:3.13-slim}
read -ra flags <<<"${BUILD_FLAGS:-}"

# The first that works here: a daemon that responds, else a program that needs none.
first_builder() {
    if docker info >/dev/null 2>&1; then
        echo docker
    else
        basename "$(command -v podman || command -v buildah)"
    fi
}

BUILDER=${BUILDER:-$(first_builder)}
if ! command -v "${BUILDER:-none}" >/dev/null; then
    echo "images: needs docker with its daemon, podman or buildah (choose by BUILDER)" >&2
    exit 1
fi
if [ "$BUILDER" != docker ]; then
    flags+=(--layers)
    # Root in a container of its own, as on a build machine, may not make namespaces.
    [ "$(id -u)" = 0 ] && flags+=(--isolation chroot)
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git describe --always --dirty --abbrev=40 --match '' 2>/dev/null || echo unknown)
for unit in auth fraud actions scores realtime gateway deploy; do
    "$BUILDER" build --quiet "${flags[@]}" --build-arg "UNIT=$unit" --build-arg "BASE=$BASE" \
        --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
        --tag "$REPOSITORY/$unit:$TAG" . >/dev/null
    echo "$REPOSITORY/$unit:$TAG"
done
"$BUILDER" images | awk -v tag="$TAG" -v name="${REPOSITORY#docker.io/}/" \
    'NR == 1 || index($0, name) && $2 == tag'
