# shellcheck shell=bash
# What is left when all containers are gone.

# nothing_left OF PATTERN...: that nothing is there of containers whose addresses begin with a pattern. Bridges stay, and
# what is for a whole network. What the reference leaves is told.
nothing_left() {
    local of=$1 addresses
    shift
    # One that is followed by the length of a prefix may be a network's.
    addresses="($(IFS='|'; echo "$*"))([.:][0-9a-f]*)*([^0-9a-f.:/]|/32|/128|\$)"
    part "what is left of $of"
    # What a plugin leaves to the kernel may outlast its answer.
    eventually no_links || true
    left 'interfaces but bridges' "$(links)"
    left 'queueing disciplines' "$(tc qdisc show | grep -vE '^qdisc (noqueue|noop|fq_codel|pfifo_fast|mq) ' || true)"
    left 'addresses in nf_tables' "$(nft list ruleset 2>/dev/null | grep -E "$addresses" || true)"
    left 'addresses in iptables' "$({ iptables-save; ip6tables-save; } 2>/dev/null | grep -E "$addresses" || true)"
    left 'leases' "$(find /var/lib/cni/networks -type f -name '[0-9a-f]*[.:]*' 2>/dev/null || true)"
    left 'results in the cache' "$(find /var/lib/cni/results -type f ! -name '.*' 2>/dev/null || true)"
    left 'files of plugins' "$(find /run/cni -type f 2>/dev/null || true)"
    left 'namespaces' "$(find /run/netns -mindepth 1 ! -name outside)"
    eventually no_processes || true
    left 'processes of plugins' "$(processes)"
    # What containers began themselves is translated back to nobody, and the kernel forgets it in two minutes.
    left 'connections to published ports' "$({ conntrack -L; conntrack -L -f ipv6; } 2>/dev/null | grep ' dport=18[0-9][0-9][0-9] ' || true)"
    # Who comes next begins with the first address again.
    rm -rf /var/lib/cni/networks
}

# left WHAT FOUND
left() {
    if [ -z "$2" ]; then
        ok "$1: none"
    elif ours; then
        fail "left: $1: $2"
    else
        echo "LEFT by the reference: $1: $(wc -l <<<"$2") lines, as $(head -n 1 <<<"$2")"
    fi
}

links() { ip -json -details link | jq --raw-output '.[] | select(.linkinfo.info_kind != "bridge").ifname' | grep -vxE 'lo|uplink' || true; }
no_links() { [ -z "$(links)" ]; }
processes() { find /proc -maxdepth 2 -name exe -lname '/opt/cni/bin/*' -printf '%l ' 2>/dev/null || true; }
no_processes() { [ -z "$(processes)" ]; }
