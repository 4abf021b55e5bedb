# shellcheck shell=bash
# A client for the Container Runtime Interface, which Debian 12 has none of: a call is an HTTP/2 request whose body is a
# protobuf message behind five bytes (gRPC over HTTP/2, "Length-Prefixed-Message"); its status is in the trailers.

CRI_PROTO=$E2E
CRI_SOCKET=/run/containerd/containerd.sock

# cri METHOD [REQUEST]: calls it with a request in protobuf's text format, and prints the answer in the same. If the runtime
# reports an error, that is printed instead, and this fails.
cri() {
    local request=cri.request.$BASHPID answer=cri.answer.$BASHPID trailers=cri.trailers.$BASHPID length status
    protoc --proto_path="$CRI_PROTO" --encode="$1Request" cri.proto <<<"${2-}" >"$request.message" || return
    length=$(printf '%08x' "$(stat --format %s "$request.message")")
    {
        printf '\0'
        # shellcheck disable=SC2001 # a pattern of two characters
        printf '%b' "$(sed 's/../\\x&/g' <<<"$length")"
        cat "$request.message"
    } >"$request"
    curl --silent --show-error --max-time 30 --http2-prior-knowledge --unix-socket "$CRI_SOCKET" \
        --header 'content-type: application/grpc' --header 'te: trailers' --data-binary "@$request" \
        --dump-header "$trailers" --output "$answer" "http://localhost/runtime.v1.RuntimeService/$1" || return
    status=$(sed -n 's/^grpc-status: \([0-9]*\).*/\1/p' "$trailers")
    if [ "$status" != 0 ]; then
        sed -n 's/^grpc-message: *//p' "$trailers" | tr -d '\r'
        return 1
    fi
    tail -c +6 "$answer" | protoc --proto_path="$CRI_PROTO" --decode="$1Response" cri.proto
    rm "$request" "$request.message" "$answer" "$trailers"
}

# run_pod NAME [CONFIG]: a pod of this name, with more of PodSandboxConfig; prints its ID.
run_pod() {
    cri RunPodSandbox "config {
        metadata { name: '$1' uid: '$1' namespace: 'default' } hostname: '$1' log_directory: '/run/e2e/logs'
        linux { cgroup_parent: '/cnikit-e2e' } ${2-}
    }" >"run_pod.$1" || { cat "run_pod.$1"; return 1; }
    sed -n 's/^pod_sandbox_id: "\(.*\)"$/\1/p' "run_pod.$1"
}
stop_pod() { cri StopPodSandbox "pod_sandbox_id: '$1'"; }
remove_pod() { cri RemovePodSandbox "pod_sandbox_id: '$1'"; }

# The addresses that the runtime tells the kubelet.
pod_ips() { cri PodSandboxStatus "pod_sandbox_id: '$1'" | sed -n 's/^ *ip: "\(.*\)"$/\1/p' | one_line; }
