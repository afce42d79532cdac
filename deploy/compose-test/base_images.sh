#!/bin/sh
# Makes the three base images of the compose test where no image can be pulled but Debian's packages can be had.
#
#   sudo sh deploy/compose-test/base_images.sh [WORK_FOLDER]
#   export BASE_IMAGE=localbase/python:3.13-slim REDIS_IMAGE=localbase/redis:8 HISTORY_IMAGE=localbase/postgres:17
#
# Needs debootstrap and a running Docker engine. The images stay on this machine: they carry its certificate
# bundle (so that pip in a build trusts what this machine trusts) and must not be pushed anywhere.
set -eu

work=${1:-$(mktemp -d)}
mkdir -p "$work"
suite=trixie # Python 3.13, Redis 8.0, PostgreSQL 17
bundle=/etc/ssl/certs/ca-certificates.crt

make_image() { # NAME PACKAGES CHANGE...
    name=$1 packages=$2
    shift 2
    if docker image inspect "$name" >/dev/null 2>&1; then
        echo "$name is there; remove it to have it made anew"
        return
    fi
    root=$work/$(echo "$name" | tr '/:' '--')
    rm -rf "$root"
    debootstrap --variant=minbase --include="$packages" "$suite" "$root" >"$root.log" 2>&1 || {
        tail -5 "$root.log" >&2
        return 1
    }
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
    if [ -x "$root/usr/bin/python3" ]; then ln -sf python3 "$root/usr/bin/python"; fi
    if [ -d "$root/etc/ssl/certs" ] && [ -r "$bundle" ]; then cp "$bundle" "$root$bundle"; fi
    mkdir -p "$root/data" && chown 999:1000 "$root/data" # the owner in the official Redis image
    if [ -d "$root/usr/lib/postgresql" ]; then                # what the official PostgreSQL image does, where it is made
        echo 'pg:x:70:70::/var/lib/postgresql:/bin/sh' >>"$root/etc/passwd"
        install -d -o 70 -g 70 "$root/var/lib/postgresql/data"
        install -m 755 "$(dirname "$0")/postgres.sh" "$root/usr/local/bin/"
    fi
    # `docker import` sets what a Dockerfile would: one --change for each instruction.
    tar -C "$root" -c . | docker import "$@" - "$name" >/dev/null
    rm -rf "$root"
    echo "made $name"
}

make_image localbase/python:3.13-slim python3,python3-venv,python3-pip,ca-certificates \
    --change "ENV PIP_CERT=$bundle SSL_CERT_FILE=$bundle" --change 'CMD ["python3"]'
make_image localbase/redis:8 redis-server,redis-tools \
    --change 'WORKDIR /data' --change 'CMD ["redis-server"]'
make_image localbase/postgres:17 postgresql \
    --change 'ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin' --change 'ENTRYPOINT ["postgres.sh"]'
