//! Where nodes are on the sheet: on a ring, or on two around one in the middle.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_PI_2, PI, TAU};

use overlay::{Liveness, Role};

use super::super::scene::{Scene, SceneNode};
use super::card;

/// So many nodes have a place.
const MOST: usize = 60;
/// So many nodes show their pods.
const FEW: usize = 9;
/// So many nodes stand on one ring, with nobody in its middle.
const ROUND: usize = 6;
/// Between two cards.
const GAP: f64 = 36.0;
/// Between a card and a line that passes.
const CLEARANCE: f64 = 4.0;
/// More rings than these are no rings any more.
const MOST_RINGS: usize = 4;
/// A ring is wider than it is high, as screens are.
const STRETCH: f64 = 1.35;

/// A card's middle and size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Card {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// It has room for pods.
    pub(super) is_full: bool,
}

impl Card {
    pub(super) fn left(self) -> f64 {
        self.x - self.width / 2.0
    }

    pub(super) fn top(self) -> f64 {
        self.y - self.height / 2.0
    }

    fn touches(self, other: Self, gap: f64) -> bool {
        (self.x - other.x).abs() < (self.width + other.width) / 2.0 + gap
            && (self.y - other.y).abs() < (self.height + other.height) / 2.0 + gap
    }

    /// Whether the line between two others' middles leads across it.
    fn is_crossed(self, from: Self, to: Self) -> bool {
        // The part of the line, from 0 to 1, that is between two parallel edges.
        let between = |middle: f64, half: f64, begin: f64, way: f64| {
            if way.abs() < f64::EPSILON {
                let inside = (begin - middle).abs() < half;
                return if inside { (0.0, 1.0) } else { (1.0, 0.0) };
            }
            let (one, other) = ((middle - half - begin) / way, (middle + half - begin) / way);
            (one.min(other), one.max(other))
        };
        let (left, right) = between(self.x, self.width / 2.0 + CLEARANCE, from.x, to.x - from.x);
        let (top, bottom) = between(self.y, self.height / 2.0 + CLEARANCE, from.y, to.y - from.y);
        left.max(top).max(0.0) < right.min(bottom).min(1.0)
    }

    /// How far along a line from its middle, as a part of that line, it reaches.
    fn reach(self, dx: f64, dy: f64) -> f64 {
        let part = |half: f64, way: f64| if way.abs() < 1.0 { f64::INFINITY } else { half / way.abs() };
        part(self.width / 2.0, dx).min(part(self.height / 2.0, dy)).min(1.0)
    }
}

/// Where every card is that has a place.
#[derive(Debug)]
pub(super) struct Layout {
    cards: BTreeMap<usize, Card>,
}

impl Layout {
    pub(super) fn of(scene: &Scene) -> Self {
        let shown = shown(scene);
        let is_full = shown.len() <= FEW;
        let middle = middle(scene, &shown);
        let around: Vec<usize> = shown.iter().copied().filter(|place| Some(*place) != middle).collect();
        let card = |place: usize| {
            let (width, height) =
                scene.nodes.get(place).map_or((0.0, 0.0), |node| size(node, scene, is_full));
            Card { x: 0.0, y: 0.0, width, height, is_full }
        };
        let middle = middle.map(|place| (place, card(place)));
        let around: Vec<(usize, Card)> = around.into_iter().map(|place| (place, card(place))).collect();
        Self { cards: spread(middle, &around) }
    }

    pub(super) fn card(&self, place: usize) -> Option<Card> {
        self.cards.get(&place).copied()
    }

    pub(super) fn cards(&self) -> impl Iterator<Item = (usize, Card)> + '_ {
        self.cards.iter().map(|(place, card)| (*place, *card))
    }
}

/// The nodes that have a place: all, or those that one would look for first.
fn shown(scene: &Scene) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scene.nodes.len()).collect();
    if places.len() > MOST {
        places.sort_by_key(|place| scene.nodes.get(*place).map(importance));
        places.truncate(MOST);
        places.sort_unstable();
    }
    places
}

fn importance(node: &SceneNode) -> u8 {
    match node.liveness {
        _ if node.is_here || node.role == Role::Router => 0,
        Liveness::Down | Liveness::Suspect => 1,
        Liveness::Alive | Liveness::Unknown => 2,
    }
}

/// Who is in the middle: the router, or whoever tells this if a ring of all would be too large.
fn middle(scene: &Scene, shown: &[usize]) -> Option<usize> {
    let find = |is: fn(&SceneNode) -> bool| {
        shown.iter().copied().find(|place| scene.nodes.get(*place).is_some_and(is))
    };
    let teller = || if shown.len() > ROUND { find(|node| node.is_here) } else { None };
    find(|node| node.role == Role::Router).or_else(teller)
}

fn size(node: &SceneNode, scene: &Scene, is_full: bool) -> (f64, f64) {
    if is_full { card::full_size(node, &scene.bridge) } else { card::COMPACT }
}

/// The smallest sheet on which no card touches another, and no line from the middle leads across one.
fn spread(middle: Option<(usize, Card)>, around: &[(usize, Card)]) -> BTreeMap<usize, Card> {
    let rings = if around.len() > 2 * ROUND { 1..=MOST_RINGS } else { 1..=1 };
    let sheets = rings.map(|rings| grow(middle, around, rings));
    sheets.min_by(|one, other| area(one).total_cmp(&area(other))).unwrap_or_default().into_iter().collect()
}

/// Cards on so many rings, which grow until there is room for all.
fn grow(middle: Option<(usize, Card)>, around: &[(usize, Card)], rings: usize) -> Vec<(usize, Card)> {
    let is_one = middle.is_none() && around.len() < 2;
    let mut radius = if is_one { 0.0 } else { 60.0 };
    loop {
        let placed = around.iter().enumerate().map(|(nth, (place, card))| {
            let (x, y) = on_ring(nth, around.len(), rings, radius, *card);
            (*place, Card { x, y, ..*card })
        });
        let placed: Vec<_> = middle.into_iter().chain(placed).collect();
        if is_one || is_clear(&placed, middle.is_some()) {
            return placed;
        }
        radius *= 1.04;
    }
}

fn is_clear(cards: &[(usize, Card)], has_middle: bool) -> bool {
    let after = |nth: usize| cards.iter().skip(nth + 1).map(|(_, other)| *other);
    let gap = |card: Card| if card.is_full { 2.0 * GAP } else { GAP };
    let apart = cards
        .iter()
        .enumerate()
        .all(|(nth, (_, card))| after(nth).all(|other| !card.touches(other, gap(other))));
    let Some((_, middle)) = cards.first().filter(|_| has_middle) else { return apart };
    let others = || cards.iter().skip(1).map(|(_, card)| *card);
    let crosses = |end: Card| others().any(|other| other != end && other.is_crossed(*middle, end));
    apart && !others().any(crosses)
}

fn area(cards: &[(usize, Card)]) -> f64 {
    let half = |of: fn(Card) -> f64| cards.iter().map(|(_, card)| of(*card)).fold(0.0, f64::max);
    half(|card| card.x.abs() + card.width / 2.0) * half(|card| card.y.abs() + card.height / 2.0)
}

/// Where the nth of some stands. Cards of outer rings stand behind the gaps of inner ones, so that lines from the middle
/// get through.
fn on_ring(nth: usize, of: usize, rings: usize, radius: f64, card: Card) -> (f64, f64) {
    let begin = match of {
        2 => PI,
        4 => -FRAC_PI_2 - TAU / 8.0,
        _ => -FRAC_PI_2,
    };
    // Or else the last would stand beside the first, on the same ring.
    let places = of.next_multiple_of(rings);
    let angle = begin + TAU * nth as f64 / places as f64;
    let step = (card.height + GAP).max((card.width + GAP) / STRETCH);
    let far = radius + (nth % rings) as f64 * step;
    (far * STRETCH * angle.cos(), far * angle.sin())
}

/// The middle of what can be seen of a line between two cards by way of a point.
pub(super) fn visible_middle(from: Card, to: Card, by: (f64, f64)) -> (f64, f64) {
    let (dx, dy) = (to.x - from.x, to.y - from.y);
    let (begin, end) = (from.reach(dx, dy), 1.0 - to.reach(dx, dy));
    let off = (begin + end) / 2.0 - 0.5;
    (by.0 + dx * off, by.1 + dy * off)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cards(number: usize, width: f64, height: f64) -> Vec<(usize, Card)> {
        let card = Card { x: 0.0, y: 0.0, width, height, is_full: true };
        (1..=number).map(|place| (place, card)).collect()
    }

    proptest! {
        #[test]
        fn no_card_lies_on_another(number in 0_usize..70, width in 50.0..350.0, height in 40.0..300.0, centre: bool) {
            let middle = centre.then(|| (0, cards(1, width, height)[0].1));
            let placed: Vec<_> = spread(middle, &cards(number, width, height)).into_iter().collect();
            prop_assert_eq!(placed.len(), number + usize::from(centre));
            prop_assert!(is_clear(&placed, centre));
        }
    }

    #[test]
    fn a_line_that_passes_crosses_nothing() {
        let card = |x: f64, y: f64| Card { x, y, width: 100.0, height: 50.0, is_full: false };
        assert!(card(200.0, 0.0).is_crossed(card(0.0, 0.0), card(400.0, 0.0)));
        assert!(card(200.0, 20.0).is_crossed(card(0.0, 0.0), card(400.0, 0.0)));
        assert!(!card(200.0, 40.0).is_crossed(card(0.0, 0.0), card(400.0, 0.0)));
        assert!(!card(600.0, 0.0).is_crossed(card(0.0, 0.0), card(400.0, 0.0)));
        assert!(card(200.0, 200.0).is_crossed(card(0.0, 0.0), card(400.0, 400.0)));
    }

    #[test]
    fn two_nodes_stand_side_by_side() {
        let placed = spread(None, &cards(2, 100.0, 50.0));
        assert!(placed[&1].x < placed[&2].x && (placed[&1].y - placed[&2].y).abs() < 1e-6);
    }
}
