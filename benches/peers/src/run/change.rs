//! How much a quantity differs between two builds that were measured in turn.

use super::samples::median;

/// Of fewer pairs no interval is told: it would be narrower than what one does not know.
const FEWEST: usize = 5;

/// How often pairs are drawn anew.
const DRAWS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The medians.
    pub old: f64,
    pub new: f64,
    /// Of the new median by the old, with a confidence of 95 %.
    pub interval: Option<[f64; 2]>,
}

impl Change {
    /// The values of both, pair by pair. `None` without any.
    pub fn of(old: &[f64], new: &[f64]) -> Option<Self> {
        Some(Self { old: median(old)?, new: median(new)?, interval: interval(old, new) })
    }

    pub fn ratio(self) -> f64 {
        self.new / self.old
    }
}

/// The percentiles of a bootstrap that draws pairs: what both of a pair have met is in both medians.
fn interval(old: &[f64], new: &[f64]) -> Option<[f64; 2]> {
    let pairs: Vec<(f64, f64)> = old.iter().copied().zip(new.iter().copied()).collect();
    if pairs.len() < FEWEST {
        return None;
    }
    // The same for every call: two looks at the same values tell the same.
    let mut random = fastrand::Rng::with_seed(11);
    let mut ratios: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let drawn = (0..pairs.len()).filter_map(|_| random.choice(&pairs).copied());
            let (old, new): (Vec<f64>, Vec<f64>) = drawn.unzip();
            Some(median(&new)? / median(&old)?)
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    Some([DRAWS / 40, DRAWS - DRAWS / 40].map(|at| ratios[at.min(ratios.len() - 1)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values about one, as a machine that others use gives them: a tenth up or down for both of a
    /// pair, a hundredth for each alone.
    fn pairs(random: &mut fastrand::Rng, times: f64) -> [Vec<f64>; 2] {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            let machine = 0.9 + 0.2 * random.f64();
            old.push(machine * (0.99 + 0.02 * random.f64()));
            new.push(times * machine * (0.99 + 0.02 * random.f64()));
        }
        [old, new]
    }

    #[test]
    fn the_interval_holds_the_true_ratio_and_little_else() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut missed = 0;
        for _ in 0..100 {
            let [old, new] = pairs(&mut random, 1.05);
            let change = Change::of(&old, &new).unwrap();
            let [from, to] = change.interval.unwrap();
            assert!(from <= change.ratio() && change.ratio() <= to, "{change:?}");
            missed += usize::from(!(from..=to).contains(&1.05));
        }
        // Of 100 intervals of 95 % about 5 miss; and one that misses none is too wide.
        assert!((1..=12).contains(&missed), "{missed} of 100 missed");
    }

    #[test]
    fn few_pairs_have_no_interval_and_none_no_change() {
        let change = Change::of(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]).unwrap();
        assert_eq!((change.ratio(), change.interval), (2.0, None));
        assert_eq!(Change::of(&[], &[]), None);
    }
}
