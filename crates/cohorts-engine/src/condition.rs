//! Tests joined by AND, OR and NOT, for whatever is tested: people, rows of events, groups of rows.

/// A condition over tests of one sort.
#[derive(Clone, Debug)]
pub(crate) enum Condition<T> {
    Test(T),
    Not(Box<Condition<T>>),
    /// Of nothing: holds.
    All(Vec<Condition<T>>),
    /// Of nothing: does not hold.
    Any(Vec<Condition<T>>),
}

impl<T> Condition<T> {
    pub fn negated(self) -> Condition<T> {
        Condition::Not(Box::new(self))
    }

    pub fn negated_if(self, negated: bool) -> Condition<T> {
        match negated {
            true => self.negated(),
            false => self,
        }
    }

    /// Whether it holds, given the answer of each test.
    pub fn holds(&self, test: &impl Fn(&T) -> bool) -> bool {
        match self {
            Condition::Test(one) => test(one),
            Condition::Not(inner) => !inner.holds(test),
            Condition::All(parts) => parts.iter().all(|part| part.holds(test)),
            Condition::Any(parts) => parts.iter().any(|part| part.holds(test)),
        }
    }

    /// The same condition over other tests.
    pub fn map<'a, U>(&'a self, make: &impl Fn(&'a T) -> U) -> Condition<U> {
        match self {
            Condition::All(parts) => {
                Condition::All(parts.iter().map(|part| part.map(make)).collect())
            }
            Condition::Any(parts) => {
                Condition::Any(parts.iter().map(|part| part.map(make)).collect())
            }
            Condition::Not(inner) => inner.map(make).negated(),
            Condition::Test(one) => Condition::Test(make(one)),
        }
    }

    /// The same condition over other tests, or the first error in making one.
    pub fn try_map<U, E>(
        &self,
        make: &mut impl FnMut(&T) -> Result<Condition<U>, E>,
    ) -> Result<Condition<U>, E> {
        let mut all = |parts: &[Condition<T>]| {
            let parts = parts.iter().map(|part| part.try_map(make));
            parts.collect::<Result<Vec<_>, E>>()
        };
        Ok(match self {
            Condition::All(parts) => Condition::All(all(parts)?),
            Condition::Any(parts) => Condition::Any(all(parts)?),
            Condition::Not(inner) => inner.try_map(make)?.negated(),
            Condition::Test(one) => make(one)?,
        })
    }

    /// Every test, in the order written.
    pub fn tests(&self) -> Vec<&T> {
        match self {
            Condition::Test(one) => vec![one],
            Condition::Not(inner) => inner.tests(),
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().flat_map(Condition::tests).collect()
            }
        }
    }
}
