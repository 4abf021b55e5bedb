//! Did you mean …?

/// The name that somebody who wrote `word` probably had in mind, if there is one.
pub(super) fn closest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing that long is a slip of the pen, and the work grows with the square.
    if word.chars().count() > 40 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let scored = names.into_iter().map(|name| (distance(&word, &name.to_ascii_lowercase()), name));
    let (distance, name) = scored.min_by_key(|(distance, _)| *distance)?;
    // One slip in short words, three in long ones.
    let allowed = (word.chars().count().max(name.len()) / 4).clamp(1, 3);
    (distance <= allowed).then_some(name)
}

/// How many letters have to be added, removed, replaced, or swapped with their neighbour (Damerau's distance, of the
/// kind that is called optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let cell = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let replaced = cell(&above, j) + usize::from(x != y);
            let mut best = replaced.min(cell(&above, j + 1) + 1).min(cell(&row, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                best = best.min(cell(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn distances_are_counted_in_letters() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "ab", 2),
            ("mtu", "mut", 1),
            ("isgatway", "isgateway", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn slips_of_the_pen_are_recognised_and_other_words_are_not() {
        let names = ["isGateway", "isDefaultGateway", "mtu", "ipam", "subnet", "hairpinMode"];
        for (word, expected) in [
            ("isGatway", Some("isGateway")),
            ("isgateway", Some("isGateway")),
            ("mut", Some("mtu")),
            ("ipma", Some("ipam")),
            ("subnets", Some("subnet")),
            ("hairpin", None),
            ("color", None),
            ("", None),
        ] {
            assert_eq!(closest(word, names), expected, "{word}");
        }
        assert_eq!(closest(&"m".repeat(10_000), names), None);
    }

    proptest! {
        #[test]
        fn a_distance_is_one(a in ".{0,12}", b in ".{0,12}") {
            let there = distance(&a, &b);
            prop_assert_eq!(there, distance(&b, &a));
            prop_assert_eq!(there == 0, a == b);
            prop_assert!(there <= a.chars().count().max(b.chars().count()));
        }
    }
}
