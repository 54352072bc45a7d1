//! How often each of many people is in each of many sets.

use roaring::RoaringBitmap;

/// Counts by binary digit, the lowest first: who has a one there.
#[derive(Default)]
pub(super) struct BitSlicedCounter {
    digits: Vec<RoaringBitmap>,
}

impl BitSlicedCounter {
    /// Adds one to everybody in a set.
    pub fn add(&mut self, mut carry: RoaringBitmap) {
        for digit in &mut self.digits {
            if carry.is_empty() {
                return;
            }
            let both = &*digit & &carry;
            *digit ^= carry;
            carry = both;
        }
        if !carry.is_empty() {
            self.digits.push(carry);
        }
    }

    /// Those who were added so often at least, which is once at least.
    pub fn at_least(&self, times: usize) -> RoaringBitmap {
        if times >> self.digits.len() > 0 {
            return RoaringBitmap::new();
        }
        // From the highest digit on: who is above already, and who is equal so far.
        let mut above = RoaringBitmap::new();
        let mut equal: Option<RoaringBitmap> = None;
        for (place, digit) in self.digits.iter().enumerate().rev() {
            let ones = equal
                .as_ref()
                .map_or_else(|| digit.clone(), |equal| equal & digit);
            match times >> place & 1 {
                1 => equal = Some(ones),
                _ => {
                    above |= &ones;
                    equal = equal.map(|equal| equal - ones);
                }
            }
        }
        above | equal.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_counted_as_often_as_added() {
        let mut counter = BitSlicedCounter::default();
        // Person n is in n of the sets.
        for set in 0..20_u32 {
            counter.add((set + 1..=20).collect());
        }
        for times in 1..=20_u32 {
            let found: Vec<u32> = counter.at_least(times as usize).iter().collect();
            assert_eq!(found, Vec::from_iter(times..=20), "{times}");
        }
        assert!(counter.at_least(21).is_empty() && counter.at_least(1_000).is_empty());
        assert!(BitSlicedCounter::default().at_least(1).is_empty());
    }
}
