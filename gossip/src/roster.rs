//! Who comes next.

use crate::random::Random;

/// Nodes, by their numbers, in the order in which they are probed: the order of those before the cursor, and which of those after it comes
/// next, is drawn (a Fisher-Yates shuffle, one step at a time), so that nothing is ever shuffled as a whole.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    nodes: Vec<u32>,
    cursor: usize,
}

impl Roster {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().copied()
    }

    /// Any.
    pub(crate) fn pick(&self, random: &mut Random) -> Option<u32> {
        self.nodes.get(random.index(self.nodes.len())).copied()
    }

    /// Up to so many different ones, without an excluded one.
    pub(crate) fn pick_some(&self, count: usize, except: Option<u32>, random: &mut Random) -> Vec<u32> {
        let mut some = Vec::with_capacity(count.min(self.nodes.len()));
        // One run through the roster from anywhere would do, but would have neighbours go together for ever.
        let mut draws = 4 * count;
        if self.nodes.len() <= 2 * count {
            let from = random.index(self.nodes.len());
            let nodes = self.nodes.iter().copied().cycle().skip(from).take(self.nodes.len());
            some.extend(nodes.filter(|node| Some(*node) != except).take(count));
            return some;
        }
        while some.len() < count && draws > 0 {
            draws -= 1;
            if let Some(node) = self.pick(random).filter(|node| !some.contains(node) && Some(*node) != except)
            {
                some.push(node);
            }
        }
        some
    }

    /// The next one in this pass, and who is elsewhere now.
    pub(crate) fn next(&mut self, random: &mut Random) -> Option<(u32, [(u32, u32); 2])> {
        if self.cursor >= self.nodes.len() {
            self.cursor = 0;
        }
        let drawn = self.cursor + random.index(self.nodes.len() - self.cursor);
        let node = *self.nodes.get(drawn)?;
        self.nodes.swap(self.cursor, drawn);
        let other = *self.nodes.get(drawn)?;
        let moved = [(other, drawn as u32), (node, self.cursor as u32)];
        self.cursor += 1;
        Some((node, moved))
    }

    /// Adds one, which comes in this pass; tells where it is.
    pub(crate) fn push(&mut self, node: u32) -> u32 {
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    /// One has another number.
    pub(crate) fn replace(&mut self, at: u32, node: u32) {
        if let Some(place) = self.nodes.get_mut(at as usize) {
            *place = node;
        }
    }

    /// Takes one out; tells which others are elsewhere now.
    pub(crate) fn remove(&mut self, at: u32) -> [Option<(u32, u32)>; 2] {
        let at = at as usize;
        if at >= self.nodes.len() {
            return [None, None];
        }
        // The hole goes to the cursor first: what is before it has been probed, and stays so.
        let mut hole = at;
        if at < self.cursor {
            self.cursor -= 1;
            self.nodes.swap(at, self.cursor);
            hole = self.cursor;
        }
        self.nodes.swap_remove(hole);
        let now = |at: usize| self.nodes.get(at).map(|node| (*node, at as u32));
        [now(at), now(hole)]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn roster(count: u32) -> Roster {
        let mut roster = Roster::default();
        for number in 0..count {
            roster.push(number);
        }
        roster
    }

    #[test]
    fn every_pass_has_everybody_once_and_in_another_order() {
        let (mut roster, mut random) = (roster(50), Random::new(1));
        let mut pass = || -> Vec<_> { (0..50).map(|_| roster.next(&mut random).unwrap().0).collect() };
        let (first, second) = (pass(), pass());
        assert_ne!(first, second);
        for mut ids in [first, second] {
            ids.sort_unstable();
            assert!(ids.into_iter().eq(0..50));
        }
    }

    #[test]
    fn some_are_different_ones_and_not_the_excluded_one() {
        let mut random = Random::new(2);
        for count in 0..12 {
            let roster = roster(count);
            for wanted in 0..12 {
                let mut some = roster.pick_some(wanted, Some(3), &mut random);
                assert!(some.len() <= wanted && !some.contains(&3));
                let others = count as usize - usize::from(count > 3);
                assert!(count as usize > 2 * wanted || some.len() == wanted.min(others));
                let count = some.len();
                some.sort_unstable();
                some.dedup();
                assert_eq!(some.len(), count);
            }
        }
    }

    proptest! {
        #[test]
        fn where_somebody_is_stays_known_and_no_pass_leaves_anybody_out(
            acts in prop::collection::vec((0_u8..3, any::<u8>()), 1..200),
        ) {
            let (mut roster, mut random) = (Roster::default(), Random::new(3));
            let mut at = BTreeMap::new();
            // Those who were there when the pass began, and have not come.
            let mut due = std::collections::BTreeSet::new();
            for (act, number) in acts {
                let id = u32::from(number);
                match act {
                    0 if !at.contains_key(&id) => drop(at.insert(id, roster.push(id))),
                    1 => if let Some(place) = at.remove(&id) {
                        due.remove(&id);
                        at.extend(roster.remove(place).into_iter().flatten());
                    },
                    _ => {
                        if roster.cursor >= roster.len() {
                            prop_assert!(due.is_empty(), "left out: {due:?}");
                            due = at.keys().copied().collect();
                        }
                        if let Some((id, moved)) = roster.next(&mut random) {
                            at.extend(moved);
                            due.remove(&id);
                        }
                    }
                }
                prop_assert_eq!(roster.len(), at.len());
                for (id, place) in &at {
                    prop_assert_eq!(roster.nodes.get(*place as usize), Some(id));
                }
            }
        }
    }
}
