# A dependency's licence must leave everyone as free as ours does. Input: `cargo metadata`. An expression such as
# `(MIT OR Apache-2.0) AND Unicode-3.0` is read without its parentheses, which can only make it stricter.
["MIT", "MIT-0", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "ISC",
 "Zlib", "0BSD", "CC0-1.0", "Unlicense", "Unicode-3.0", "Unicode-DFS-2016", "BSL-1.0", "NCSA"] as $allowed
| [.packages[] | {name, version, license: (.license // "none")}] as $all
| [$all[] | select(.license | gsub("[()]"; "") | gsub("/"; " OR ") | split(" AND ")
    | all(split(" OR ") | any(IN($allowed[]))) | not)] as $refused
| if $refused == [] then "\($all | length) packages, all under permissive licences"
  else ($refused[] | "not permitted: \(.name) \(.version), \(.license)"), false end
