#!/usr/bin/env bash
# Makes the base of the images, python:3.13-slim, of Debian's packages: for machines that reach a
# Debian mirror and no registry. Needs root, debootstrap, and buildah, podman or docker.
set -euo pipefail

BASE=${BASE:-docker.io/library/python:3.13-slim}
BUILDER=${BUILDER:-buildah}
RELEASE=trixie # whose Python is 3.13
# The mirror that apt uses here, unless one is given.
MIRROR=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p)}

command -v debootstrap >/dev/null || { echo "image-base: debootstrap is missing" >&2 && exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$RELEASE" "$folder" "$MIRROR" >&2
# As in the image of that name: `python` is there, and no list of packages or archive.
ln -s python3 "$folder/usr/bin/python"
rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/usr/share/{doc,man,locale}

tar -C "$folder" -cf "$folder.tar" .
trap 'rm -rf "$folder" "$folder.tar"' EXIT
if [ "$BUILDER" = buildah ]; then
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$folder.tar" /
    buildah config --cmd python3 "$container"
    buildah commit --quiet --rm "$container" "$BASE"
else
    "$BUILDER" import --change 'CMD ["python3"]' "$folder.tar" "$BASE"
fi
