# A dependency's licence must leave everyone as free as ours does. Input: `cargo metadata`; `$allowed` is deny.toml's list. An
# expression such as `(MIT OR Apache-2.0) AND Unicode-3.0` is read without its parentheses, which can only make it stricter.
[.packages[] | {name, version, license: (.license // "none")}] as $all
| [$all[] | select(.license | gsub("[()]"; "") | gsub("/"; " OR ") | split(" AND ")
    | all(split(" OR ") | any(IN($allowed[]))) | not)] as $refused
| if $allowed == [] then "no licence is allowed: is the list in deny.toml still where it was?", false
  elif $refused == [] then "\($all | length) packages, all under permissive licences"
  else ($refused[] | "not permitted: \(.name) \(.version), \(.license)"), false end
