# shellcheck shell=bash
# containerd: pods of its CRI plugin, as the kubelet has them, and containers of `ctr run --cni`.

test_containerd() {
    part "$(containerd --version | cut -d ' ' -f 1,3)"
    cat >/etc/cni/net.d/10-pods.conflist <<'CONFLIST'
{ "cniVersion": "1.0.0", "name": "pods", "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.244.7.0/24" }], [{ "subnet": "fd00:244:7::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] } },
    { "type": "portmap", "capabilities": { "portMappings": true } },
    { "type": "firewall" },
    { "type": "bandwidth", "capabilities": { "bandwidth": true } } ] }
CONFLIST
    # Rights that a container of a test may not have (CAP_SYS_RESOURCE) are not asked for.
    cat >containerd.toml <<TOML
version = 2
root = "/run/e2e/containerd"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$IMAGE"
disable_apparmor = true
restrict_oom_score_adj = true
TOML
    start_containerd
    ctr images import --snapshotter native image.tar >/dev/null
    ctr_pods images import image.tar >/dev/null
    eventually network_ready || fail "the network is not ready: $(cri Status)"
    ok 'NetworkReady'

    pods_talk
    ports_of_pods
    bandwidth_of_pods
    pods_outlive_containerd
    pods_end
    a_pod_whose_network_fails
    status_and_gc
    containers_of_ctr
    kill "$CONTAINERD"
    wait "$CONTAINERD" || true
}

start_containerd() {
    containerd --config containerd.toml >>containerd.log 2>&1 &
    CONTAINERD=$!
    eventually ctr version >/dev/null 2>&1 || fail "containerd does not start: $(tail -n 5 containerd.log)"
}
ctr() { command ctr --namespace cnikit-e2e "$@"; }
ctr_pods() { command ctr --namespace k8s.io "$@"; }
network_ready() { cri Status | grep -A 1 'type: "NetworkReady"' | grep -q 'status: true'; }

in_pod() { ctr_pods tasks exec --exec-id "$RANDOM$RANDOM" "$@" </dev/null; }
# The path of a pod's network namespace.
netns_of() { cri PodSandboxStatus "pod_sandbox_id: '$1' verbose: true" | grep -o '/var/run/netns/cni-[0-9a-f-]*' | head -n 1; }
who_in_pod() { in_pod "$1" wget -q -O - "http://$2/cgi-bin/who" | seen; }

# Two pods, one of them with all that a pod can ask of its network.
pods_talk() {
    server=$(run_pod server '
        port_mappings { protocol: TCP container_port: 8000 host_port: 18080 }
        port_mappings { protocol: UDP container_port: 9000 host_port: 18053 }
        port_mappings { protocol: TCP container_port: 8000 host_port: 18081 host_ip: "192.0.2.1" }
        port_mappings { protocol: TCP container_port: 8000 host_port: 18082 host_ip: "127.0.0.1" }
        port_mappings { protocol: TCP container_port: 8000 host_port: 18083 host_ip: "2001:db8::1" }
        annotations { key: "kubernetes.io/ingress-bandwidth" value: "10M" }
        annotations { key: "kubernetes.io/egress-bandwidth" value: "20M" }') || fail "RunPodSandbox: $server"
    client=$(run_pod client) || fail "RunPodSandbox: $client"
    expect 'RunPodSandbox, the first pod' '10.244.7.2 fd00:244:7::2' "$(pod_ips "$server")"
    expect 'RunPodSandbox, the second pod' '10.244.7.3 fd00:244:7::3' "$(pod_ips "$client")"
    expect 'addresses inside' '10.244.7.3/24 fd00:244:7::3/64' \
        "$(in_pod "$client" ip -o address show dev eth0 scope global | awk '{ print $4 }' | one_line)"
    expect 'addresses of its loopback' '127.0.0.1/8 ::1/128' \
        "$(in_pod "$client" ip -o address show dev lo | awk '{ print $4 }' | one_line)"
    for address in 127.0.0.1 10.244.7.2 fd00:244:7::2 10.244.7.1 192.0.2.2 2001:db8::2; do
        in_pod "$client" ping -c 1 -W 5 "$address" >/dev/null || fail "ping from a pod to $address"
        ok "ping from a pod to $address"
    done
    expect 'TCP from pod to pod, seen from' 10.244.7.3 "$(who_in_pod "$client" 10.244.7.2:8000)"
    expect 'the same, IPv6' fd00:244:7::3 "$(who_in_pod "$client" '[fd00:244:7::2]:8000')"
    expect 'TCP from a pod to the outside, seen from' 192.0.2.1 "$(who_in_pod "$client" 192.0.2.2:8000)"
    expect 'the same, IPv6' 2001:db8::1 "$(who_in_pod "$client" '[2001:db8::2]:8000')"
    attached 'cnikit list' 'cni-loopback/lo cni-loopback/lo pods/eth0 pods/eth0'
}

ports_of_pods() {
    expect 'hostPort, from the outside, seen from' 192.0.2.2 "$(fetch http://192.0.2.1:18080/cgi-bin/who in_outside | seen)"
    expect 'the same, IPv6' 2001:db8::2 "$(fetch 'http://[2001:db8::1]:18080/cgi-bin/who' in_outside | seen)"
    expect 'hostPort, from the node' hello "$(fetch http://192.0.2.1:18080/)"
    expect 'the same, by 127.0.0.1' hello "$(fetch http://127.0.0.1:18080/)"
    expect 'hostPort, from another pod, seen from the gateway' 10.244.7.1 "$(who_in_pod "$client" 192.0.2.1:18080)"
    expect 'hostPort, from the pod itself, seen from the gateway' 10.244.7.1 "$(who_in_pod "$server" 192.0.2.1:18080)"
    expect 'hostPort of a host address' hello "$(fetch http://192.0.2.1:18081/ in_outside)"
    refused fetch http://127.0.0.1:18081/
    expect 'the same, 127.0.0.1' hello "$(fetch http://127.0.0.1:18082/)"
    refused fetch http://192.0.2.1:18082/ in_outside
    expect 'the same, IPv6' hello "$(fetch 'http://[2001:db8::1]:18083/' in_outside)"
    refused fetch http://192.0.2.1:18083/ in_outside

    serve_udp "$(netns_of "$server")" 9000
    expect 'hostPort, UDP, from the outside, seen from' 192.0.2.2 "$(ask_udp 192.0.2.1 18053 in_outside)"
    expect 'the same, IPv6' 2001:db8::2 "$(ask_udp '[2001:db8::1]' 18053 in_outside)"
}

bandwidth_of_pods() {
    # `tc` says 10Mbit; the containers' traffic comes out of ifb.
    rates() { tc qdisc show | sed -n 's/.* dev \(veth\|bwp\|ifb\|bw\)[^ ]* .* rate \([^ ]*\) .*/\2/p' | one_line; }
    expect 'rates of a pod with kubernetes.io/ingress-bandwidth and egress-bandwidth' '10Mbit 20Mbit' "$(rates)"
    expect 'interfaces that delay what a pod sends' 1 "$(ip -brief link show type ifb | wc -l)"
}

pods_outlive_containerd() {
    kill "$CONTAINERD"
    wait "$CONTAINERD" || true
    start_containerd
    expect 'after a restart of containerd, the pod has its addresses' '10.244.7.2 fd00:244:7::2' "$(pod_ips "$server")"
    expect 'and its port' hello "$(fetch http://192.0.2.1:18080/ in_outside)"
}

pods_end() {
    local netns other
    end_udp
    for number in 1 2 3; do
        stop_pod "$server" >stop.log || fail "StopPodSandbox, number $number: $(cat stop.log)"
    done
    ok 'StopPodSandbox, three times'
    expect 'addresses after it' 2 "$(leases pods)"
    refused fetch http://192.0.2.1:18080/ in_outside
    remove_pod "$server" >stop.log || fail "RemovePodSandbox: $(cat stop.log)"
    remove_pod "$server" >stop.log || fail "RemovePodSandbox once more: $(cat stop.log)"
    ok 'RemovePodSandbox, twice'

    # The port is another pod's now.
    other=$(run_pod other 'port_mappings { protocol: UDP container_port: 9000 host_port: 18053 }') || fail "RunPodSandbox: $other"
    serve_udp "$(netns_of "$other")" 9000
    expect 'a UDP port that another pod had' 192.0.2.2 "$(ask_udp 192.0.2.1 18053 in_outside)"

    end_udp
    # A namespace that is removed behind the runtime's back.
    netns=$(netns_of "$other")
    umount "$netns"
    rm "$netns"
    stop_pod "$other" >stop.log || fail "StopPodSandbox without a namespace: $(cat stop.log)"
    remove_pod "$other" >stop.log || fail "RemovePodSandbox without a namespace: $(cat stop.log)"
    ok 'a pod whose network namespace was removed can be removed'
    remove_pod "$client" >stop.log || fail "RemovePodSandbox without StopPodSandbox: $(cat stop.log)"
    expect 'addresses when all pods are removed' 0 "$(leases pods)"
    attached 'attachments then' ''
}

# The chain's second plugin refuses; the runtime then calls DEL of all four, three of which have made nothing.
a_pod_whose_network_fails() {
    local said
    ! said=$(run_pod fails 'port_mappings { protocol: TCP host_port: 18080 }') || fail 'a port that leads to no port was made'
    grep -q 'plugin type="portmap"' <<<"$said" || fail "this should be portmap's: $said"
    ok "refused: $said"
    # The reference's portmap does not undo what it did not understand, and no plugin before it gets its DEL.
    ours || return 0
    expect 'addresses after it' 0 "$(leases pods)"
    expect 'interfaces after it' cni0 "$(interfaces)"
}

status_and_gc() {
    local version
    version=$(containerd --version | sed 's/^[^ ]* [^ ]* \([0-9]*\)\..*/\1/')
    [ "$version" -ge 2 ] || { skip 'STATUS and GC: containerd calls them since 2.0'; return; }
    fail 'this containerd calls STATUS: it wants a test'
}

# `ctr` attaches a container by /proc/PID/ns/net, after its program has started; it gives it no loopback. It detaches it
# when the program has ended, with an empty CNI_NETNS.
containers_of_ctr() {
    ctr run --rm --cni --snapshotter native "$IMAGE" one "${SERVE[@]}" </dev/null >one.log 2>&1 &
    local process=$!
    # shellcheck disable=SC2317 # it is called
    has_addresses() { [ "$(ctr_addresses 2>/dev/null | wc -w)" = 2 ]; }
    ctr_addresses() {
        ctr tasks exec --exec-id "$RANDOM" one ip -o address show dev eth0 scope global </dev/null | awk '{ print $4 }' | one_line
    }
    eventually has_addresses || fail "ctr run --cni: $(cat one.log)"
    ok "ctr run --cni: $(ctr_addresses)"
    ctr tasks exec --exec-id ping one ping -c 1 -W 5 192.0.2.2 </dev/null >/dev/null || fail 'ping from the container to the outside'
    ok 'ping from the container to the outside'
    ctr tasks kill --signal KILL one
    wait "$process" || true
    ! ours || expect 'addresses after DEL with an empty CNI_NETNS' 0 "$(leases pods)"
}
