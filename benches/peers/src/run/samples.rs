//! What was measured, round by round.

use std::collections::BTreeMap;

use crate::stacks::Stack;

/// All values by load, stack and quantity.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<(String, &'static str, &'static str), Vec<f64>>);

impl Samples {
    pub fn add(&mut self, load: &str, stack: Stack, quantity: &'static str, value: f64) {
        eprintln!("{load}: {} {quantity} {value:.2}", stack.name());
        let key = (load.to_owned(), stack.name(), quantity);
        self.0.entry(key).or_default().push(value);
    }

    /// In the order in which they were added.
    pub fn values(&self, load: &str, stack: Stack, quantity: &'static str) -> &[f64] {
        self.0.get(&(load.to_owned(), stack.name(), quantity)).map_or(&[], |values| values)
    }

    pub fn median(&self, load: &str, stack: Stack, quantity: &'static str) -> Option<f64> {
        median(self.values(load, stack, quantity))
    }

    /// One stack's median by another's.
    pub fn ratio(
        &self,
        load: &str,
        stack: Stack,
        by: Stack,
        quantity: &'static str,
    ) -> Option<f64> {
        Some(self.median(load, stack, quantity)? / self.median(load, by, quantity)?)
    }
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
