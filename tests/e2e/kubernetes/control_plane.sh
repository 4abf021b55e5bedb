# shellcheck shell=bash
# The switch that the nodes are on, and the machine that has the API.

make_segment() {
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/netns /run/lock
    ip link set lo up
    ip link add segment type bridge
    ip address add "$API/24" dev segment
    ip link set segment up
}

# signed NAME SUBJECT [EXTENSIONS]
signed() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile <(echo "${3-extendedKeyUsage=clientAuth}") \
        -out "$1.crt" 2>/dev/null
}

# kubeconfig NAME: of whom there is a certificate
kubeconfig() {
    jq --null-input --arg name "$1" --arg server "https://$API:6443" --arg work "$WORK" '
        { apiVersion: "v1", kind: "Config", "current-context": "it",
          clusters: [{ name: "it", cluster: { $server, "certificate-authority": "\($work)/ca.crt" } }],
          users: [{ name: "it", user: { "client-certificate": "\($work)/\($name).crt", "client-key": "\($work)/\($name).key" } }],
          contexts: [{ name: "it", context: { cluster: "it", user: "it" } }] }' >"$1.kubeconfig"
}

start_control_plane() {
    part "$(kube-apiserver --version)"
    openssl req -x509 -days 2 -subj /CN=kubernetes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt 2>/dev/null
    openssl genrsa -out accounts.key 2048 2>/dev/null
    signed server /CN=kube-apiserver "subjectAltName=IP:$API,IP:127.0.0.1,IP:10.96.0.1
extendedKeyUsage=serverAuth"
    signed admin /O=system:masters/CN=admin
    kubeconfig admin
    etcd --data-dir etcd --log-level error >etcd.log 2>&1 &
    kube-apiserver --etcd-servers http://127.0.0.1:2379 --authorization-mode Node,RBAC --bind-address "$API" --advertise-address "$API" \
        --client-ca-file ca.crt --tls-cert-file server.crt --tls-private-key-file server.key --service-cluster-ip-range 10.96.0.0/16 \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file accounts.key \
        --service-account-signing-key-file accounts.key --kubelet-preferred-address-types InternalIP \
        --kubelet-client-certificate admin.crt --kubelet-client-key admin.key >api.log 2>&1 &
    within 180 kubectl get --raw /readyz || fail "no API server: $(tail -n 5 api.log)"
    kube-controller-manager --kubeconfig admin.kubeconfig --leader-elect=false --use-service-account-credentials \
        --allocate-node-cidrs --cluster-cidr 10.244.0.0/16 --configure-cloud-routes=false --service-cluster-ip-range 10.96.0.0/16 \
        --root-ca-file ca.crt --service-account-private-key-file accounts.key --port 0 --secure-port 0 >controllers.log 2>&1 &
    kube-scheduler --kubeconfig admin.kubeconfig --leader-elect=false --port 0 --secure-port 0 >scheduler.log 2>&1 &
    ok 'the API server is ready'
}

kubectl() { command kubectl --kubeconfig admin.kubeconfig --request-timeout 20s "$@"; }
