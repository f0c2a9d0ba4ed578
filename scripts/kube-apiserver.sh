#!/usr/bin/env bash
# A real Kubernetes API for tests: builds kube-apiserver and kube-controller-manager 1.20 from Debian's own source package
# `kubernetes` (it vendors its modules) with Debian's Go 1.19, and starts them on loopback beside Debian's etcd.
#   kube-apiserver.sh build        into $KUBE_DIR/bin what is not there yet (about ten CPU minutes, once; root for apt)
#   kube-apiserver.sh start        on 127.0.0.1:$KUBE_PORT, with the tokens admintok (may do everything) and plaintok (nothing)
#   kube-apiserver.sh controllers  those of Deployments, ReplicaSets and HorizontalPodAutoscalers, which look every 2 s
#   kube-apiserver.sh stop         all of them
# Ask with `?pretty=false` when you ask by curl: made pretty, a map ends this server (a library of its time reads maps as Go
# before 1.18 laid them out).
set -euo pipefail
KUBE_DIR=${KUBE_DIR:-$HOME/.cache/bellwether-kube} KUBE_PORT=${KUBE_PORT:-16443} ETCD_PORT=${ETCD_PORT:-16379}
mkdir -p "$KUBE_DIR"
cd "$KUBE_DIR"

build() {
  local missing=() lists tree gopath=$PWD/gopath
  for program in kube-apiserver kube-controller-manager; do
    [[ -x bin/$program ]] || missing+=("./cmd/$program")
  done
  ((${#missing[@]})) || { echo "already built: $KUBE_DIR/bin"; return; }
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
  go build -o "$KUBE_DIR/bin/" "${missing[@]}"
  cd "$KUBE_DIR"
  rm -rf gopath gocache openapi-gen lists
  echo "built: $KUBE_DIR/bin"
}

alive() { [[ -f $1.pid ]] && kill -0 "$(cat "$1.pid")" 2>/dev/null; }

start() {
  alive api && { echo "already running"; return; }
  rm -rf etcd
  etcd --data-dir etcd --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls http://127.0.0.1:0 >etcd.log 2>&1 &
  echo $! >etcd.pid
  mkdir -p certs
  [[ -f sa.key ]] || openssl genrsa -out sa.key 2048 2>/dev/null
  [[ -f certs/proxy.pem ]] || certify
  printf 'admintok,admin,1,"system:masters"\nplaintok,plain,2\n' >tokens.csv
  bin/kube-apiserver --etcd-servers="http://127.0.0.1:$ETCD_PORT" --secure-port="$KUBE_PORT" --insecure-port=0 --bind-address=127.0.0.1 \
    --cert-dir=certs --service-cluster-ip-range=10.96.0.0/24 --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=sa.key --service-account-signing-key-file=sa.key --authorization-mode=RBAC \
    --token-auth-file=tokens.csv --disable-admission-plugins=ServiceAccount \
    --requestheader-client-ca-file=certs/proxy-ca.pem --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --proxy-client-cert-file=certs/proxy.pem \
    --proxy-client-key-file=certs/proxy.key >api.log 2>&1 &
  echo $! >api.pid
  for _ in $(seq 300); do
    curl -skf -H 'Authorization: Bearer admintok' "https://127.0.0.1:$KUBE_PORT/readyz" >/dev/null && return
    alive api || break
    sleep 0.1
  done
  tail -5 api.log
  exit 1
}

# The authority for front proxies, and the certificate that the API server shows to those it passes requests on to.
certify() (
  cd certs
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
  openssl req -x509 "${key[@]}" -days 3650 -subj /CN=front-proxy-ca -keyout proxy-ca.key -out proxy-ca.pem 2>/dev/null
  openssl req "${key[@]}" -subj /CN=front-proxy-client -keyout proxy.key -out proxy.csr 2>/dev/null
  printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n' >proxy.ext
  openssl x509 -req -in proxy.csr -CA proxy-ca.pem -CAkey proxy-ca.key -CAcreateserial -days 3650 -extfile proxy.ext \
    -out proxy.pem 2>/dev/null
)

controllers() {
  alive controllers && { echo "already running"; return; }
  cat >kubeconfig <<END
apiVersion: v1
kind: Config
clusters: [{ name: c, cluster: { server: "https://127.0.0.1:$KUBE_PORT", insecure-skip-tls-verify: true } }]
users: [{ name: u, user: { token: admintok } }]
contexts: [{ name: x, context: { cluster: c, user: u } }]
current-context: x
END
  bin/kube-controller-manager --kubeconfig=kubeconfig --leader-elect=false --port=0 --secure-port=0 \
    --controllers=deployment,replicaset,horizontalpodautoscaling --horizontal-pod-autoscaler-sync-period=2s \
    --horizontal-pod-autoscaler-downscale-stabilization=5s >controllers.log 2>&1 &
  echo $! >controllers.pid
  sleep 1
  alive controllers || { tail -5 controllers.log; exit 1; }
}

stop() {
  for name in controllers api etcd; do
    if alive "$name"; then kill "$(cat "$name.pid")"; fi
    for _ in $(seq 100); do
      alive "$name" || break
      sleep 0.1
    done
    rm -f "$name.pid"
  done
}

case ${1:-} in
  build) build ;;
  start) start ;;
  controllers) controllers ;;
  stop) stop ;;
  *) sed -n '2,7p' "$0"; exit 2 ;;
esac
