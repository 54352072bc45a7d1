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

    /// The same condition over other tests, or the first error in making one.
    pub fn try_map<'a, U, E>(
        &'a self,
        make: &mut impl FnMut(&'a T) -> Result<Condition<U>, E>,
    ) -> Result<Condition<U>, E> {
        let mut all = |parts: &'a [Condition<T>]| {
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
