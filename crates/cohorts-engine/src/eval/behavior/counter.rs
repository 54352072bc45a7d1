//! Counts in how many of several bitmaps each person is.

use roaring::RoaringBitmap;

/// A count per person, stored bit by bit.
#[derive(Default)]
pub(super) struct BitSlicedCounter {
    /// Per binary digit of the count, the lowest first: the persons with the digit one.
    digits: Vec<RoaringBitmap>,
}

impl BitSlicedCounter {
    /// Adds one to the count of each of `persons`.
    pub fn add(&mut self, persons: RoaringBitmap) {
        let mut carry = persons;
        for digit in &mut self.digits {
            if carry.is_empty() {
                return;
            }
            let next = &*digit & &carry;
            *digit ^= carry;
            carry = next;
        }
        if !carry.is_empty() {
            self.digits.push(carry);
        }
    }

    /// The persons with a count of at least `bound`, and of at least one.
    pub fn at_least(&self, bound: usize) -> RoaringBitmap {
        if bound >> self.digits.len() > 0 {
            return RoaringBitmap::new();
        }
        // From the highest digit down: the persons above the bound, and those equal up to here.
        let mut above = RoaringBitmap::new();
        let mut equal: Option<RoaringBitmap> = None;
        for (place, digit) in self.digits.iter().enumerate().rev() {
            let ones = equal
                .as_ref()
                .map_or_else(|| digit.clone(), |equal| equal & digit);
            if bound >> place & 1 == 1 {
                equal = Some(ones);
            } else {
                above |= &ones;
                equal = equal.map(|equal| equal - ones);
            }
        }
        above | equal.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_the_numbers_of_additions() {
        let mut counter = BitSlicedCounter::default();
        // Person n is in n of the bitmaps.
        for nth in 0..20_u32 {
            counter.add((nth + 1..=20).collect());
        }
        for bound in 1..=20_u32 {
            let persons: Vec<u32> = counter.at_least(bound as usize).iter().collect();
            assert_eq!(persons, Vec::from_iter(bound..=20), "{bound}");
        }
        assert!(counter.at_least(21).is_empty() && counter.at_least(1_000).is_empty());
        assert!(BitSlicedCounter::default().at_least(1).is_empty());
    }
}
