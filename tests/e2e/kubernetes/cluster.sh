# shellcheck shell=bash
# Nodes, and what is looked at.

# The processes whose child is a node, by number.
NODES=()

make_busybox() {
    local layer config
    mkdir -p image/root/{bin,etc,tmp,proc,sys,dev}
    cp "$(command -v busybox)" image/root/bin/busybox
    busybox --list | grep -vx busybox | while read -r name; do ln -s busybox "image/root/bin/$name"; done
    tar -C image/root -cf image/layer.tar .
    layer=$(sha256sum <image/layer.tar | cut -d ' ' -f 1)
    jq --null-input --arg layer "sha256:$layer" --arg architecture "$(dpkg --print-architecture)" \
        '{ $architecture, os: "linux", config: { Env: ["PATH=/bin"], Cmd: ["sleep", "100000"] },
           rootfs: { type: "layers", diff_ids: [$layer] } }' >image/config.json
    config=$(sha256sum <image/config.json | cut -d ' ' -f 1)
    mv image/config.json "image/$config.json"
    jq --null-input --arg config "$config.json" \
        '[{ Config: $config, RepoTags: ["docker.io/library/busybox:test"], Layers: ["layer.tar"] }]' >image/manifest.json
    tar -C image -cf busybox.tar manifest.json "$config.json" layer.tar
}

start_node() {
    local n=$1
    signed "node-$n" "/O=system:nodes/CN=system:node:n$n"
    kubeconfig "node-$n"
    ip netns add "n$n"
    ip link add "port$n" type veth peer name eth0 netns "n$n"
    ip link set "port$n" master segment up
    nsenter --net="/run/netns/n$n" unshare --mount --uts --ipc --pid --cgroup --fork --kill-child --mount-proc --propagation private \
        "$HERE/node.sh" "$n" >"node-$n.log" 2>&1 &
    NODES[n]=$!
}

# within SECONDS COMMAND...: how long it took is in TOOK.
within() {
    local began=$SECONDS limit=$1
    shift
    until "$@" >/dev/null 2>&1; do
        [ $((SECONDS - began)) -lt "$limit" ] || return 1
        sleep 0.2
    done
    TOOK=$((SECONDS - began))
}

ready() { [ "$(kubectl get nodes --output 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}')" = "$1" ]; }
rolled_out() { kubectl --namespace kube-system rollout status daemonset/cnikit --watch=false | grep 'successfully rolled out'; }

# What is to be seen when something did not happen.
give_up() {
    kubectl get nodes,pods --all-namespaces --output wide || true
    kubectl --namespace kube-system logs daemonset/cnikit --all-containers --tail 20 || true
    tail -n 5 "$WORK"/{node,kubelet,containerd}-*.log || true
    fail "$1"
}

# on_node NUMBER COMMAND...
on_node() {
    local n=$1
    shift
    nsenter --target "$(pgrep --parent "${NODES[$n]}")" --mount --net --pid --uts -- "$@"
}

test_cluster() {
    nodes_become_ready
    agents_have_two_capabilities
    pods_talk
    agents_are_replaced
    it_is_taken_out
}

nodes_become_ready() {
    local n
    part 'nodes become Ready'
    within 180 ready 'False False' || give_up 'no nodes'
    ok "two nodes, not Ready: $(kubectl get node n1 --output 'jsonpath={.status.conditions[?(@.type=="Ready")].message}')"
    for n in 1 2; do what_is_on "$n" >"before-$n"; done
    kubectl apply --filename "$ROOT/deploy/cnikit.yaml"
    within 180 ready 'True True' || give_up 'the nodes are not Ready'
    ok "both nodes are Ready $TOOK s after kubectl apply"
    within 180 rolled_out || give_up 'the agents are not ready'
    ok 'the agents are ready'
}

agents_have_two_capabilities() {
    local n agent
    # of NAME: of the agent's status in /proc
    # shellcheck disable=SC2016 # awk's
    of() { on_node "$n" awk -v name="$1:" '$1 == name { print $2 }' "/proc/$agent/status"; }
    for n in 1 2; do
        agent=$(on_node "$n" pgrep --full --exact '/cnikit agent.*')
        expect "capabilities of the agent of n$n, CAP_NET_ADMIN and CAP_NET_RAW" 0000000000003000 \
            "$(of CapEff)"
        expect "its seccomp filter" 2 "$(of Seccomp)"
        within 10 on_node "$n" "$CNIKIT" status || give_up "cnikit status on n$n"
    done
    on_node 1 "$CNIKIT" status
    kubectl --namespace kube-system logs daemonset/cnikit >agent.log || give_up 'no log of an agent'
    grep -q 'new pods get addresses of 10\.244\.' agent.log || give_up 'the log does not say it'
    ok "kubectl logs: $(grep 'new pods get' agent.log)"
}

# Two pods on each node; one of each two has a port of the node's.
pods_talk() {
    part 'pods talk'
    for n in 1 2; do
        for name in "a$n" "b$n"; do pod "$name" "n$n"; done
    done | kubectl apply --filename - >/dev/null
    within 180 kubectl wait pod --selector app=it --for condition=Ready --timeout 1s || give_up 'the pods are not ready'
    ok "four pods are ready after $TOOK s"
    kubectl get pods --output 'custom-columns=NAME:.metadata.name,NODE:.spec.nodeName,ADDRESS:.status.podIP'
    local from to address
    for from in a1 b1 a2 b2; do
        for to in a1 b1 a2 b2; do
            [ "$from" != "$to" ] || continue
            address=$(kubectl get pod "$to" --output 'jsonpath={.status.podIP}')
            within 10 kubectl exec "$from" -- ping -c 1 -W 1 "$address" || give_up "$from does not reach $to at $address"
        done
    done
    ok 'everybody reaches everybody'
    for to in 11 12; do
        expect "a port of 192.168.1.$to" it "$(curl --silent --max-time 5 "http://192.168.1.$to:18080/")"
    done
    # What agents do not tell one another the API tells them.
    on_node 1 "$CNIKIT" topology --json >map
    expect "pods of n2 that the agent of n1 knows" 'default/a2 default/b2' \
        "$(jq --raw-output '[.nodes[] | select(.name == "n2").pods[] | "\(.namespace)/\(.name)"] | sort | join(" ")' map)"
    expect 'what it lacks of them' null "$(jq .lackingPods map)"
    on_node 1 "$CNIKIT" trace default/a1 default/a2 || fail 'by cnikit trace, a1 does not reach a2'
}

pod() {
    local ports='[]'
    [[ "$1" != a? ]] || ports='[{ "containerPort": 8000, "hostPort": 18080 }]'
    jq --null-input --arg name "$1" --arg node "$2" --argjson ports "$ports" '
        { apiVersion: "v1", kind: "Pod", metadata: { $name, labels: { app: "it" } },
          spec: { nodeName: $node, terminationGracePeriodSeconds: 0,
                  containers: [{ name: "it", image: "docker.io/library/busybox:test", imagePullPolicy: "IfNotPresent", $ports,
                                 command: ["sh", "-c", "echo it >/tmp/index.html; exec httpd -f -p 8000 -h /tmp"] }] } }'
}

# Not a packet is lost meanwhile.
agents_are_replaced() {
    part 'agents are replaced'
    local address before after sent
    address=$(kubectl get pod a2 --output 'jsonpath={.status.podIP}')
    before=$(kubectl --namespace kube-system get pods --output 'jsonpath={.items[*].metadata.uid}')
    kubectl exec a1 -- ping -i 0.1 "$address" >ping.log &
    local ping=$!
    kubectl --namespace kube-system rollout restart daemonset/cnikit
    within 180 rolled_out || give_up 'the agents are not replaced'
    ok "the agents of both nodes are replaced, one after the other, after $TOOK s"
    after=$(kubectl --namespace kube-system get pods --output 'jsonpath={.items[*].metadata.uid}')
    [ "$before" != "$after" ] || fail 'the agents are the same'
    kubectl exec a1 -- killall -INT ping
    wait "$ping" || true
    sent=$(awk '/transmitted/ { print $1 }' ping.log)
    [ "$sent" -gt 50 ] || fail "only $sent packets were sent"
    expect 'packets from pod to pod meanwhile' "$sent packets transmitted, $sent packets received, 0% packet loss" \
        "$(grep transmitted ping.log)"
}

leases() { for n in 1 2; do on_node "$n" find /var/lib/cni/networks/cnikit -name '10.*'; done; }
no_address() { [ -z "$(leases)" ]; }

taken_out() {
    kubectl --namespace kube-system rollout status daemonset/cnikit-uninstall --watch=false | grep 'successfully rolled out'
}

in_the_api() {
    kubectl get all,configmap,serviceaccount,clusterrole,clusterrolebinding --all-namespaces --output name | grep cnikit || true
    kubectl get nodes --output yaml | grep cnikit.io || true
}
nothing_in_the_api() { [ -z "$(in_the_api)" ]; }

# shellcheck disable=SC2016 # the node's shell expands that
# What node n has that an agent makes, or a plugin, a line each. The kubelet's own rules are left out.
what_is_on() {
    on_node "$1" sh -c '
        ip -brief link show | sed "s/[@ ].*//; s/^/link /"
        for family in -4 -6; do
            ip $family route show table all proto 87 | sed "s/^/route /"
            ip $family rule show | sed "s/^/rule /"
        done
        ip nexthop show | sed "s/^/next hop /"
        nft list tables | sed -n "/ KUBE\|ip6\? \(filter\|nat\|mangle\)$/!p"
        find /opt/cni/bin /etc/cni/net.d /run/cnikit /var/lib/cnikit -type f -o -type s 2>/dev/null | sed "s/^/file /"' | sort
}

# What stays, as deploy/README.md says: the bridge, plugins that nobody had before and their table, the node's id and subnets.
LEFT='file /opt/cni/bin/bandwidth
file /opt/cni/bin/cnikit-plugins
file /opt/cni/bin/loopback
file /opt/cni/bin/overlay
file /var/lib/cnikit/kubernetes-cnikit.json
file /var/lib/cnikit/lock
file /var/lib/cnikit/node.json
link cnikit-pods
table inet cnikit'

# As deploy/README.md says.
it_is_taken_out() {
    part 'it is taken out'
    kubectl delete pod --all >/dev/null
    within 180 no_address || fail "still given out: $(leases | one_line)"
    ok "all addresses are given back $TOOK s after the pods were deleted"
    local n
    for n in 1 2; do what_is_on "$n" >"with-$n"; done
    # Or what is missing afterwards has never been there.
    local there
    for there in 'link cnikit-vxlan' 'route 10.244' 'next hop ' 'table inet cnikit-overlay' \
        'file /etc/cni/net.d/10-cnikit.conflist' 'file /run/cnikit/cnikit.json'; do
        grep -q "^$there" with-1 || fail "nothing of $there: $(cat with-1)"
    done
    kubectl --namespace kube-system delete daemonset cnikit
    kubectl apply --filename "$ROOT/deploy/uninstall.yaml"
    within 180 taken_out || give_up 'it is not taken out'
    ok "it is taken off both nodes after $TOOK s"
    for n in 1 2; do
        what_is_on "$n" >"left-$n"
        comm -13 "before-$n" "left-$n" >"more-$n"
        expect "what n$n has that it did not have before" "$LEFT" "$(cat "more-$n")"
        expect "what n$n had before and has no more" '' "$(comm -23 "before-$n" "left-$n")"
        expect "entries in the plugins' table of n$n" '' "$(on_node "$n" nft list table inet cnikit | grep elements || true)"
        expect "the plugin that n$n had before" 'somebody elses' "$(on_node "$n" /opt/cni/bin/portmap)"
    done
    within 180 ready 'False False' || give_up 'the nodes are still Ready'
    ok "the nodes are not Ready any more after $TOOK s"
    kubectl delete --ignore-not-found --filename "$ROOT/deploy/uninstall.yaml" --filename "$ROOT/deploy/cnikit.yaml"
    kubectl annotate nodes --all cnikit.io/node-
    within 60 nothing_in_the_api || fail "still in the API: $(in_the_api | one_line)"
    ok 'the API has nothing of it'
}
