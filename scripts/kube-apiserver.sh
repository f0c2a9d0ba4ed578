#!/usr/bin/env bash
# A real Kubernetes API for tests: builds kube-apiserver 1.20 from Debian's own source package `kubernetes` (it vendors its
# modules) with Debian's Go 1.19, and starts it on loopback beside Debian's etcd.
#   kube-apiserver.sh build   into $KUBE_DIR/bin (about ten CPU minutes, once; root for apt)
#   kube-apiserver.sh start   on 127.0.0.1:$KUBE_PORT, with the tokens admintok (may do everything) and plaintok (nothing)
#   kube-apiserver.sh stop
set -euo pipefail
KUBE_DIR=${KUBE_DIR:-$HOME/.cache/bellwether-kube} KUBE_PORT=${KUBE_PORT:-16443} ETCD_PORT=${ETCD_PORT:-16379}
mkdir -p "$KUBE_DIR"
cd "$KUBE_DIR"

build() {
  [[ -x bin/kube-apiserver ]] && { echo "already built: $KUBE_DIR/bin"; return; }
  local lists tree gopath=$PWD/gopath
  lists=$(mktemp -d)
  # The machine's own sources, asked for source packages.
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    case $f in
      *.sources) [[ -f $f ]] && sed 's/^Types:.*/Types: deb-src/' "$f" >"$lists/${f##*/}" ;;
      *.list) [[ -f $f ]] && sed -n 's/^deb /deb-src /p' "$f" >"$lists/${f##*/}" ;;
    esac
  done
  mkdir -p lists/partial src bin
  local apt=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$lists" -o Dir::State::lists="$PWD/lists")
  apt-get update >/dev/null
  apt-get install -y --no-install-recommends golang-1.19-go dpkg-dev openssl etcd-server curl >/dev/null
  apt-get "${apt[@]}" update >/dev/null
  (cd src && apt-get "${apt[@]}" source --download-only kubernetes >/dev/null)
  tree=$gopath/src/k8s.io/kubernetes
  rm -rf "$gopath"
  mkdir -p "$tree"
  tar -xzf src/kubernetes_*.orig.tar.gz -C "$tree" --strip-components=1
  export GOPATH=$gopath GOROOT=/usr/lib/go-1.19 PATH=/usr/lib/go-1.19/bin:$PATH GOPROXY=off GO111MODULE=off CGO_ENABLED=0
  export GOCACHE=$PWD/gocache GOFLAGS='' GOGC=300
  cd "$tree"
  # The OpenAPI definitions are generated, and not in the source: make them first.
  go build -o "$KUBE_DIR/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  local packages
  packages=$(grep -rl --include='*.go' '+k8s:openapi-gen=' staging/src/k8s.io pkg cmd plugin |
    grep -vE '_test.go|code-generator|sample-apiserver|zz_generated' | xargs -n1 dirname | sort -u |
    sed 's#^staging/src/#k8s.io/kubernetes/vendor/#; t; s#^#k8s.io/kubernetes/#' | paste -sd,)
  "$KUBE_DIR/openapi-gen" -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h hack/boilerplate/boilerplate.generatego.txt -r "$KUBE_DIR/violations.txt" -o "$gopath/src"
  go build -o "$KUBE_DIR/bin/" ./cmd/kube-apiserver
  cd "$KUBE_DIR"
  rm -rf gopath gocache openapi-gen lists
  echo "built: $KUBE_DIR/bin"
}

alive() { [[ -f $1.pid ]] && kill -0 "$(cat "$1.pid")" 2>/dev/null; }

start() {
  alive api && { echo "already running"; return; }
  local data
  data=$(mktemp -d)
  etcd --data-dir "$data" --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls http://127.0.0.1:0 >etcd.log 2>&1 &
  echo $! >etcd.pid
  mkdir -p certs
  [[ -f sa.key ]] || openssl genrsa -out sa.key 2048 2>/dev/null
  printf 'admintok,admin,1,"system:masters"\nplaintok,plain,2\n' >tokens.csv
  bin/kube-apiserver --etcd-servers="http://127.0.0.1:$ETCD_PORT" --secure-port="$KUBE_PORT" --insecure-port=0 --bind-address=127.0.0.1 \
    --cert-dir=certs --service-cluster-ip-range=10.96.0.0/24 --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=sa.key --service-account-signing-key-file=sa.key --authorization-mode=RBAC \
    --token-auth-file=tokens.csv --disable-admission-plugins=ServiceAccount >api.log 2>&1 &
  echo $! >api.pid
  for _ in $(seq 300); do
    curl -skf -H 'Authorization: Bearer admintok' "https://127.0.0.1:$KUBE_PORT/readyz" >/dev/null && return
    alive api || break
    sleep 0.1
  done
  tail -5 api.log
  exit 1
}

stop() {
  for name in api etcd; do
    if alive "$name"; then kill "$(cat "$name.pid")"; fi
    rm -f "$name.pid"
  done
}

case ${1:-} in
  build) build ;;
  start) start ;;
  stop) stop ;;
  *) sed -n '2,6p' "$0"; exit 2 ;;
esac
