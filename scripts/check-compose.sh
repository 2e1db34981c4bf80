#!/usr/bin/env bash
# Checks Dockerfile and docker-compose.yml for real, on Linux: builds the image, brings the compose
# file up on a fresh copy of the tree as a newcomer does, against a simulated WhatsApp whose phone scans the QR
# code from the output, chats, takes everything down and up, kills the database and the bot, runs two
# bots, and prints the image's size and the bot's memory. The story itself is TestCompose in cmd/wabot.
#
#   scripts/check-compose.sh
#
# It uses the Docker engine that runs on this machine. Where none does, it starts one of its own, as root, and installs
# docker.io and docker-compose with apt where they are missing. Where no engine can be had, it says so and skips.
# Base images that cannot be pulled are built from this machine's own files, under their own names:
#   golang  this machine's Go, the modules from its module cache, compiled packages, busybox
#   mongo   FerretDB with logins, the real mongosh from npm, busybox (see internal/mongotest/standin)
# Containers, volumes, stand-ins and an engine of its own are gone afterwards. What is slow to make stays in
# ${XDG_CACHE_HOME:-~/.cache}/wabot-check-compose.
#
# It never takes for ever: what cannot be prepared in time skips the check, and a story that does not come to its end in
# time fails.
#
# COMPOSE names another compose than docker-compose, for example COMPOSE="docker compose".
set -euo pipefail
cd "$(dirname "$0")/.."

# How many seconds there are for what comes before the story, and for the story. Idle, two cores need two minutes for the first, where
# nothing is in the cache, and three for the second.
preparing=600 telling=600

tmp=$(mktemp -d)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wabot-check-compose
mkdir -p "$cache"
engine=            # the pid of an engine of our own
watch=             # the pid of what watches the time
made=(wabot-check) # images to remove

step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS" >&2; }

skip() {
  printf '\n*** SKIPPED: %s. Dockerfile and docker-compose.yml were NOT checked. ***\n' "$*" >&2
  exit 0
}

# deadline ends this script after so many seconds from now, instead of the deadline before: it ends the
# commands it waits for, and cleanup tells the reason.
deadline() {
  [ -z "$watch" ] || kill "$watch" 2>/dev/null || true
  (
    sleep "$1" &
    trap 'kill $!' TERM # or it would sleep on
    wait $! || exit 0
    trap - TERM
    echo "$2" >"$tmp/late"
    while :; do
      for child in $(<"/proc/$$/task/$$/children"); do
        [ "$child" = "$BASHPID" ] || [ "$child" = "$(cat "$tmp/docker.pid" 2>/dev/null)" ] || kill "$child" 2>/dev/null || true
      done
      sleep 1
    done
  ) &
  watch=$!
}

# halt ends an engine of our own, with all that it runs.
halt() {
  [ -n "$engine" ] || return 0
  kill "$engine" || true
  local until=$((SECONDS + 30))
  while kill -0 "$engine" && [ $SECONDS -lt $until ]; do sleep 0.2; done
  # Killed, it would leave containerd, which is its child, and mounts.
  kill -9 "$engine" $(cat "$tmp/exec/containerd/containerd.pid") || true
  awk -v dir="$tmp/" 'index($2, dir) == 1 {print $2}' /proc/mounts | xargs -r umount --lazy || true
  engine=
} 2>/dev/null

cleanup() {
  [ -z "$watch" ] || kill "$watch" 2>/dev/null || true
  # What the story leaves when it is interrupted.
  local project=label=com.docker.compose.project=wabot-check
  docker() { timeout --kill-after=5 60 docker "$@"; }
  docker ps --all --quiet --filter $project | xargs -r timeout 60 docker rm --force --volumes
  docker volume ls --quiet --filter $project | xargs -r timeout 60 docker volume rm
  docker network ls --quiet --filter $project | xargs -r timeout 60 docker network rm
  docker image rm --force "${made[@]}"
  halt
  local late=
  [ ! -e "$tmp/late" ] || late=$(<"$tmp/late")
  rm -rf "$tmp"
  case $late in
  "") exit "$status" ;;
  story) printf '\n*** FAILED: the story has not come to its end within %s seconds. ***\n' "$telling" >&3 && exit 1 ;;
  *) skip "$late within $preparing seconds" 2>&3 ;;
  esac
}
# Whatever goes wrong in it, it goes on.
trap 'status=$?; set +e; cleanup 3>&2 >/dev/null 2>&1' EXIT

deadline "$preparing" "a Docker engine and its base images were not there"

# install installs Debian packages, where that is possible.
install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  step "apt-get install $*"
  local apt=(apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=15 -o DPkg::Lock::Timeout=30)
  {
    timeout 60 "${apt[@]}" -o APT::Update::Error-Mode=any update &&
      DEBIAN_FRONTEND=noninteractive timeout 300 "${apt[@]}" -y --no-install-recommends install "$@"
  } >/dev/null 2>"$tmp/apt.log" || {
    cat "$tmp/apt.log" >&2
    return 1
  }
}

command -v docker >/dev/null || install docker.io iptables || skip "there is no docker, and it cannot be installed"
if [ -z "${COMPOSE:-}" ]; then
  COMPOSE=docker-compose
  if ! command -v docker-compose >/dev/null; then
    if docker compose version >/dev/null 2>&1; then
      COMPOSE="docker compose"
    else
      install docker-compose || skip "there is no docker-compose, and it cannot be installed"
    fi
  fi
fi
export COMPOSE
# vfs copies whole images; on a busy machine that takes longer than docker-compose 1.29 waits.
export COMPOSE_HTTP_TIMEOUT=600

answers() { timeout 20 docker info >/dev/null 2>&1; }

# begin starts an engine with a storage driver, if that can be.
begin() {
  step "starting dockerd, on $1"
  dockerd --storage-driver="$1" --data-root "$tmp/docker" --exec-root "$tmp/exec" --pidfile "$tmp/docker.pid" \
    --host "$DOCKER_HOST" >"$tmp/dockerd.log" 2>&1 &
  engine=$!
  local until=$((SECONDS + 60))
  while kill -0 "$engine" 2>/dev/null && [ $SECONDS -lt $until ]; do
    ! answers || return 0
    sleep 0.5
  done
  tail -2 "$tmp/dockerd.log" >&2
  halt
  rm -rf "$tmp/docker"
  return 1
}

if ! answers; then
  [ "$(id -u)" = 0 ] || skip "no Docker engine runs, and only root can start one"
  command -v dockerd >/dev/null && command -v iptables >/dev/null || install docker.io iptables || skip "there is no dockerd, and it cannot be installed"
  export DOCKER_HOST=unix://$tmp/docker.sock
  # vfs works on every file system, but copies whole images.
  begin overlay2 || begin vfs || skip "no Docker engine can run here"
fi

# have says whether an image is here or can be pulled. Where a pull takes too long, no other is tried.
unreachable=
have() {
  ! docker image inspect "$1" >/dev/null 2>&1 || return 0
  [ -z "$unreachable" ] || return 1
  timeout 120 docker pull --quiet "$1" >/dev/null 2>&1 && return 0
  [ $? != 124 ] || unreachable=1
  return 1
}

# rootfs begins the files of a stand-in: a shell and its tools.
rootfs() {
  [ -x /bin/busybox ] && /bin/busybox --list | grep -x chown >/dev/null || install busybox-static || skip "there is no busybox, and it cannot be installed"
  mkdir -p "$1"/{bin,root,tmp,etc/ssl/certs}
  chmod 1777 "$1/tmp"
  cp /bin/busybox "$1/bin/"
  for tool in $(/bin/busybox --list | grep -vx busybox); do ln -sf busybox "$1/bin/$tool"; done
}

# into makes the image $2 of the files in $1; what follows are lines of a Dockerfile.
into() {
  local dir=$1 image=$2 changes=()
  shift 2
  for line; do changes+=(--change "$line"); done
  tar -C "$dir" -c . | docker import "${changes[@]}" - "$image" >/dev/null
  made+=("$image")
  rm -rf "$dir"
}

# An engine may run where its containers cannot, and another machine's, or that outside a container, cannot reach us.
if [ -n "$engine" ]; then
  rootfs "$tmp/probe"
  { into "$tmp/probe" wabot-check-probe "ENV PATH=/bin" && timeout 60 docker run --pull=never --rm --init wabot-check-probe true; } >"$tmp/probe.log" 2>&1 ||
    { cat "$tmp/probe.log" >&2; skip "no container can be started here"; }
fi
gateway=$(docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}')
hostname -I | tr ' ' '\n' | grep -qxF "$gateway" || skip "the Docker engine does not run on this machine"

golang=$(sed -n 's/^FROM \(golang:[^ ]*\).*/\1/p' Dockerfile)
if ! have "$golang"; then
  step "a stand-in for $golang"
  root=$tmp/golang
  rootfs "$root"
  mkdir -p "$root/usr/local/go"
  tar -C "$(go env GOROOT)" --exclude=./test --exclude=./doc --exclude=./api --exclude=./pkg/obj -c . | tar -C "$root/usr/local/go" -x
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  # The modules as a proxy serves them, and no others than the build may load.
  GOMODCACHE=$tmp/mod GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)" GOFLAGS=-modcacherw go mod download
  mkdir -p "$root/goproxy"
  cp -r "$tmp/mod/cache/download/." "$root/goproxy/"
  rm -rf "$tmp/mod"
  # With the Dockerfile's flags: what is compiled here, at most once for each version of a package, need not be in the container.
  CGO_ENABLED=0 GOCACHE=$cache/compiled go build -trimpath -buildvcs=false -o /dev/null ./cmd/wabot
  cp -r "$cache/compiled" "$root/tmp/cache"
  into "$root" "$golang" "ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOTOOLCHAIN=local GOPROXY=file:///goproxy GOSUMDB=off" "CMD [\"/bin/sh\"]"
fi

mongo=$(sed -n 's/^ *image: \(mongo:.*\)/\1/p' docker-compose.yml | head -1)
if ! have "$mongo"; then
  step "a stand-in for $mongo"
  command -v npm >/dev/null || install nodejs npm || skip "there is no npm, and it cannot be installed"
  version=$(go -C internal/mongotest/server list -m -f '{{.Version}}' github.com/FerretDB/FerretDB)
  if [ ! -x "$cache/ferretdb-$version" ]; then
    # The program, unlike the package, wants its version in a file that no release has.
    go -C internal/mongotest/server mod download github.com/FerretDB/FerretDB
    cp -r "$(go -C internal/mongotest/server list -m -f '{{.Dir}}' github.com/FerretDB/FerretDB)" "$tmp/ferretdb"
    chmod -R u+w "$tmp/ferretdb"
    echo "$version" >"$tmp/ferretdb/build/version/version.txt"
    CGO_ENABLED=0 go -C "$tmp/ferretdb" build -mod=mod -trimpath -buildvcs=false -o "$cache/ferretdb-$version" ./cmd/ferretdb
  fi
  [ -x "$cache/npm/node_modules/.bin/mongosh" ] || npm install --prefix "$cache/npm" --no-audit --no-fund --omit=optional mongosh >/dev/null ||
    skip "mongosh cannot be had from npm, so there is no stand-in for $mongo"
  root=$tmp/mongo
  rootfs "$root"
  mkdir -p "$root"/{opt,data/db,data/configdb,docker-entrypoint-initdb.d}
  cp "$cache/ferretdb-$version" "$root/ferretdb"
  CGO_ENABLED=0 go build -buildvcs=false -o "$root/standin" ./internal/mongotest/standin
  cp -r "$cache/npm/node_modules" "$root/opt/"
  cp -L "$(command -v node)" "$root/bin/node"
  for lib in $(ldd "$(command -v node)" | grep -o '/[^ ]*'); do
    mkdir -p "$root$(dirname "$lib")"
    cp -L "$lib" "$root$lib"
  done
  printf '#!/bin/sh\nexec node /opt/node_modules/mongosh/bin/mongosh.js "$@"\n' >"$root/bin/mongosh"
  chmod +x "$root/bin/mongosh"
  into "$root" "$mongo" "ENV PATH=/bin HOME=/root" "VOLUME [\"/data/db\", \"/data/configdb\"]" "EXPOSE 27017" "ENTRYPOINT [\"/standin\"]"
fi

step "a fresh copy of the tree"
copy=$tmp/wabot
mkdir "$copy"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done |
  tar --null -T - -c | tar -C "$copy" -x
# As root, it is somebody else's: they must get their .env.
if [ "$(id -u)" = 0 ]; then
  chmod 755 "$tmp"
  chown -R 1234:1234 "$copy"
fi

go test -c -o "$tmp/story" ./cmd/wabot

deadline "$telling" story
step "the story"
cd cmd/wabot
WABOT_COMPOSE_DIR=$copy "$tmp/story" -test.v -test.run '^TestCompose$'
step "done"
