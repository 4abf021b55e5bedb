# A package in several versions is built, audited and carried as often. Input: `cargo metadata`. Those that others' packages
# force upon us are named here, with how many versions there are; one that is not needed any more must leave the list.
{
  "base64": 2,       # 0.22 for k8s-openapi, 0.23 for kube-client
  "embedded-io": 2,  # both for postcard
  "getrandom": 3,    # 0.2 for ring, 0.3 for ahash, 0.4 for everybody else
  "syn": 2           # procedural macros on the way from 2 to 3; nothing of it is in an executable
} as $allowed
| ([.packages | group_by(.name)[] | {key: .[0].name, value: (map(.version) | unique)}] | from_entries) as $versions
| [$versions | to_entries[] | select((.value | length) > ($allowed[.key] // 1))
    | "in several versions: \(.key) \(.value | join(", "))"] as $refused
| [$allowed | to_entries[] | select(($versions[.key] // [] | length) < .value)
    | "not that many versions any more, take it off the list: \(.key)"] as $stale
| if $refused + $stale == [] then "\($allowed | length) packages in more versions than one, all of them known"
  else ($refused + $stale)[], false end
